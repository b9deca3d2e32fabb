"""The plugin server's rate of exports, and the store's index as it grows."""

from __future__ import annotations

import asyncio
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from bench.measure import OURS, say
from bench.options import Options
from bench.table import Line
from exporter.content.layout import OCILayout
from exporter.image import Descriptor, digest_bytes
from exporter.image.media_types import OCI_MANIFEST
from exporter.pb.buildkit.exporter.v1 import exporter_pb2 as pb
from exporter.pb.buildkit.exporter.v1 import exporter_pb2_grpc
from exporter.progress.model import StatusUpdate
from exporter.remotes.messages.layers import descriptor_message, layer_message
from exporter.source.types import BuildInfo, Ref, Source
from exporter.takeover.access import access_of_user
from exporter.takeover.backend import Destination
from exporter.takeover.plugin_server import PluginBackend
from exporter.testing import MemoryLayer, source_of

LAYERS = 20
RATE_GOALS = {1: 100, 16: 250, 64: 250}
FAIRNESS_GOAL = 3.0
NAMING_GOAL = 1.5
COUNTS = (10, 1000, 10_000)
CONFIG = b'{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":null}}'


@dataclass(frozen=True, slots=True)
class Rate:
    """What a number of clients did.

    Attributes:
        per_second: Exports per second.
        median: The median duration of an export in seconds.
        p99: The 99th percentile.
    """

    per_second: float
    median: float
    p99: float


def rate_lines(options: Options) -> Iterator[Line]:
    """Measure the rate at several numbers of clients."""
    rates = asyncio.run(measure_rates(options, tuple(RATE_GOALS), LAYERS))
    for clients, rate in rates.items():
        what = f"exports of an image of {LAYERS} layers that are in the store, {clients} clients"
        yield Line(
            "exports",
            what,
            rate.per_second,
            "per s",
            value=rate.per_second,
            goal=RATE_GOALS[clients],
            at_least=True,
        )
        yield Line(
            "exports",
            "the same: 99th percentile, compared with the median",
            rate.p99 * 1000,
            "ms",
            value=rate.p99 / rate.median,
            peer=rate.median * 1000,
            peer_name="median",
            goal=FAIRNESS_GOAL,
        )


def naming_lines(options: Options) -> Iterator[Line]:
    """Measure naming one more image in stores of several sizes."""
    times = {}
    for count in COUNTS:
        say(f"naming an image in a store of {count}")
        times[count] = asyncio.run(naming(options.directory / "index", count))
    for count in COUNTS[1:]:
        yield Line(
            "naming",
            f"naming an image in a store of {count:,}",
            times[count],
            "ms",
            value=times[count] / times[COUNTS[0]],
            peer=times[COUNTS[0]],
            peer_name=f"in a store of {COUNTS[0]}",
            goal=NAMING_GOAL,
        )


async def measure_rates(options: Options, clients: Sequence[int], layers: int) -> dict[int, Rate]:
    """Have several clients export the same image at the same time."""
    root = options.directory / f"exports-{layers}"
    root.mkdir()
    rates = {}
    with server(root) as address:
        source = source_of(
            *(MemoryLayer({f"file-{i}": b"%d" % i * 300}, f"RUN step {i}") for i in range(layers)),
            config=CONFIG,
        )
        assert source.ref is not None
        async with grpc.aio.insecure_channel(address) as channel:
            backend = PluginBackend(channel, address, "bench")
            await backend.export(
                *(0, "image", {"name": "bench.example/app:first"}),
                source=source,
                build=BuildInfo(),
                destination=Destination(),
                access=access_of_user(None),
                sink=_ignore,
            )
        message = await _message_of(source.ref, source)
        for count in clients:
            say(f"exports of {layers} layers by {count} clients")
            rates[count] = await _measure(address, message, count, options.pick(6, 2))
    return rates


@contextmanager
def server(root: Path) -> Iterator[str]:
    """Run a plugin server; gives its address."""
    command = [*OURS, "serve", "--addr", f"unix://{root}/s.sock", "--root", str(root / "r")]
    with (root / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--ready-fd", "1"], stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    if not process.stdout.read():
        process.wait()
        raise RuntimeError(f"the server does not start: {(root / 'log').read_text()[-2000:]}")
    try:
        yield f"unix:{root}/s.sock"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


async def _message_of(ref: Ref, source: Source) -> pb.Source:
    layers = pb.InlineRef(
        chain=[layer_message(layer) for layer in await ref.layer_chain()],
        descriptors=[descriptor_message(descriptor) for descriptor in (await ref.remote()).descriptors],
    )
    return pb.Source(metadata=source.metadata, ref=pb.Ref(id=ref.id, inline=layers))


async def _measure(address: str, source: pb.Source, clients: int, seconds: float) -> Rate:
    times: list[float] = []
    end = time.monotonic() + seconds

    async def client(number: int) -> None:
        async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = exporter_pb2_grpc.ExporterServiceStub(channel)
            attrs = {"name": f"bench.example/app:{number}"}
            while (begun := time.monotonic()) < end:
                request = pb.ExportRequest(
                    type="image", attrs=attrs, source=source, build=pb.BuildInfo(ref=f"b{number}")
                )
                async for _ in stub.Export(request):
                    pass
                times.append(time.monotonic() - begun)

    begun = time.monotonic()
    await asyncio.gather(*(client(number) for number in range(clients)))
    rate = len(times) / (time.monotonic() - begun)
    times.sort()
    return Rate(rate, statistics.median(times), times[int(len(times) * 0.99)])


async def naming(root: Path, count: int) -> float:
    """Milliseconds that it takes to name one more image in a store of `count`; the median."""
    layout = await OCILayout.open(root / str(count))
    config = b"{}"
    manifest = (
        b'{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"application/vnd.oci.image.config.v1+json",'
        b'"digest":"%s","size":2},"layers":[]}' % (OCI_MANIFEST.encode(), digest_bytes(config).encode())
    )
    for data in (config, manifest):
        async with layout.ingest() as writer:
            await writer.write(data)
            await writer.commit()
    descriptor = Descriptor(OCI_MANIFEST, digest_bytes(manifest), len(manifest))
    await layout.publish(descriptor, [f"bench.example/app:{i}" for i in range(count)])
    times = []
    for i in range(11):
        begun = time.perf_counter()
        await layout.publish(descriptor, [f"bench.example/more:{i}"])
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


def _ignore(update: StatusUpdate) -> None:
    pass
