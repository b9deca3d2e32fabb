"""Sessions with BuildKit's own programs at the other end."""

# ruff: noqa: N802 (methods are named as in the .proto)

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from exporter.content.copy import read_blob, write_blob
from exporter.content.layout import OCILayout
from exporter.daemon.services.content import ContentServicer
from exporter.errors import NotFoundError
from exporter.image import Descriptor, digest_bytes
from exporter.pb.fsutil.types import stat_pb2, wire_pb2
from exporter.pb.moby.buildkit.v1 import control_pb2, control_pb2_grpc
from exporter.pb.moby.buildkit.v1.frontend import gateway_pb2, gateway_pb2_grpc
from exporter.pb.moby.filesync.v1 import filesync_pb2_grpc
from exporter.pb.pb import ops_pb2
from exporter.remotes.session.content import EXPORT_STORE, STORE_ID, ContentClient
from exporter.rpc.session.attach import attach
from exporter.rpc.session.manager import HEALTH_METHOD, Session, SessionManager
from exporter.rpc.status import StatusInterceptor
from tests.buildkit import buildkitd, require_buildkit
from tests.sessions import PATIENCE

EXPORT = ((STORE_ID, EXPORT_STORE),)
Packet = wire_pb2.Packet


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose sockets have short paths."""
    directory = Path(tempfile.mkdtemp(prefix="bke-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Daemon(control_pb2_grpc.ControlServicer):
    """Accepts a session and requests everything that a build would."""

    def __init__(self, blobs: dict[Descriptor, bytes]) -> None:
        self.sessions = SessionManager()
        self.blobs = blobs
        self.methods: frozenset[str] = frozenset()
        self.context: list[str] = []
        self.read_back: list[bytes] = []
        self.missing: NotFoundError | None = None
        self.health = 0

    async def Session(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        await context.send_initial_metadata(())
        await self.sessions.serve(tuple(context.invocation_metadata()), context)

    async def Solve(self, request: Any, context: Any) -> Any:
        session = await self.sessions.wait(request.Session, PATIENCE)
        self.methods = session.methods
        assert session.supports(HEALTH_METHOD)
        self.context = await walk(session, "context")
        store = ContentClient(session.channel, metadata=EXPORT)
        for descriptor, blob in self.blobs.items():
            await write_blob(store, blob, descriptor)
            self.read_back.append(await read_blob(store, descriptor))
            await write_blob(store, blob, descriptor)
        try:
            await store.info(digest_of(b"missing"))
        except NotFoundError as error:
            self.missing = error
        root = list(self.blobs)[-1]
        encoded = base64.b64encode(root.marshal()).decode()
        return control_pb2.SolveResponse(ExporterResponse={"containerimage.descriptor": encoded})

    async def Status(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield control_pb2.StatusResponse()

    async def Info(self, request: Any, context: Any) -> Any:
        return control_pb2.InfoResponse()

    async def ListWorkers(self, request: Any, context: Any) -> Any:
        return control_pb2.ListWorkersResponse()

    async def ListenBuildHistory(self, request: Any, context: Any) -> None:  # type: ignore[override]
        pass

    async def DiskUsage(self, request: Any, context: Any) -> Any:
        return control_pb2.DiskUsageResponse()

    async def UpdateBuildHistory(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    Prune = UpdateBuildHistory  # type: ignore[assignment]


class Bridge(gateway_pb2_grpc.LLBBridgeServicer):
    """The request of buildctl during `Daemon.Solve`."""

    async def Ping(self, request: Any, context: Any) -> Any:
        return gateway_pb2.PongResponse()

    async def Solve(self, request: Any, context: Any) -> Any:
        return gateway_pb2.SolveResponse(result=gateway_pb2.Result(ref=gateway_pb2.Ref()))

    async def Return(self, request: Any, context: Any) -> Any:
        return gateway_pb2.ReturnResponse()

    async def Evaluate(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    ReadFile = ReadDir = StatFile = Inputs = NewContainer = ReleaseContainer = Evaluate
    ExecProcess = Evaluate  # type: ignore[assignment]


async def walk(session: Session, name: str) -> list[str]:
    """Ask for a directory of the client and list it, taking no contents."""
    call = filesync_pb2_grpc.FileSyncStub(session.channel).DiffCopy(metadata=(("dir-name", name),))
    paths = []
    while isinstance(packet := await call.read(), Packet) and packet.HasField("stat"):
        paths.append(packet.stat.path.decode())
    await call.write(Packet(type=Packet.PACKET_FIN))
    while await call.read() is not grpc.aio.EOF:
        pass
    return paths


async def test_buildctl_attaches_to_us(short_path: Path) -> None:
    buildctl = require_buildkit("buildctl")
    large = os.urandom(5 << 20)
    manifest = b'{"schemaVersion":2}'
    daemon = Daemon(
        {
            Descriptor("application/vnd.oci.image.layer.v1.tar", digest_of(large), len(large)): large,
            Descriptor(
                "application/vnd.oci.image.manifest.v1+json", digest_of(manifest), len(manifest)
            ): manifest,
        }
    )
    context = short_path / "context"
    (context / "sub").mkdir(parents=True)
    (context / "Dockerfile").write_text("FROM scratch\n")
    (context / "sub" / "file").write_text("x")
    server = grpc.aio.server(interceptors=[StatusInterceptor()])
    control_pb2_grpc.add_ControlServicer_to_server(daemon, server)
    gateway_pb2_grpc.add_LLBBridgeServicer_to_server(Bridge(), server)
    server.add_insecure_port(f"unix:{short_path}/s")
    await server.start()
    try:
        process = await asyncio.create_subprocess_exec(
            buildctl,
            *("--addr", f"unix://{short_path}/s", "build", "--progress", "plain"),
            *(
                "--frontend",
                "dockerfile.v0",
                "--local",
                f"context={context}",
                "--local",
                f"dockerfile={context}",
            ),
            *("--output", f"type=oci,dest={short_path}/out,tar=false,name=docker.io/library/x:latest"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        async with asyncio.timeout(PATIENCE):
            while len(daemon.sessions):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        await daemon.sessions.close()
        await server.stop(None)
    assert "/moby.filesync.v1.filesync/diffcopy" in daemon.methods
    assert "/containerd.services.content.v1.content/write" in daemon.methods
    assert daemon.context == ["Dockerfile", "sub", "sub/file"]
    assert daemon.read_back == list(daemon.blobs.values())
    assert daemon.missing is not None
    layout = await OCILayout.open(short_path / "out", create=False)
    for descriptor, blob in daemon.blobs.items():
        assert await read_blob(layout, descriptor) == blob
    [entry] = json.loads((short_path / "out" / "index.json").read_bytes())["manifests"]
    assert entry["digest"] == digest_of(manifest)


class Files(filesync_pb2_grpc.FileSyncServicer):
    """A directory with one file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked_for: list[str] = []

    async def DiffCopy(self, request_iterator: AsyncIterator[Packet], context: Any) -> AsyncIterator[Packet]:
        self.asked_for += [str(v) for k, v in context.invocation_metadata() if k == "dir-name"]
        yield Packet(
            type=Packet.PACKET_STAT, stat=stat_pb2.Stat(path=b"file", mode=0o644, size=len(self.data))
        )
        yield Packet(type=Packet.PACKET_STAT)
        async for packet in request_iterator:
            if packet.type == Packet.PACKET_REQ:
                for start in range(0, len(self.data), 32768):
                    piece = self.data[start : start + 32768]
                    yield Packet(type=Packet.PACKET_DATA, ID=packet.ID, data=piece)
                yield Packet(type=Packet.PACKET_DATA, ID=packet.ID)
            elif packet.type == Packet.PACKET_FIN:
                yield Packet(type=Packet.PACKET_FIN)
                return

    async def TarStream(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        raise NotImplementedError

    def register(self, server: grpc.aio.Server) -> None:
        filesync_pb2_grpc.add_FileSyncServicer_to_server(self, server)


def copy_of_local(name: str) -> ops_pb2.Definition:
    """LLB for an image that is just the client's directory."""
    source = ops_pb2.Op(
        source=ops_pb2.SourceOp(identifier=f"local://{name}"),
        platform=ops_pb2.Platform(OS="linux", Architecture="amd64"),
    ).SerializeToString()
    result = ops_pb2.Op(inputs=[ops_pb2.Input(digest=digest_of(source))]).SerializeToString()
    definition = ops_pb2.Definition()
    getattr(definition, "def").extend([source, result])
    return definition


async def test_we_attach_to_buildkitd(short_path: Path) -> None:
    files = Files(os.urandom(3 << 20))
    layout = await OCILayout.open(short_path / "layout")
    content = ContentServicer(stores={EXPORT_STORE: layout})
    async with (
        buildkitd(short_path) as address,
        grpc.aio.insecure_channel(address) as channel,
        attach(channel, [files.register, content.register]) as attachment,
    ):
        control = control_pb2_grpc.ControlStub(channel)
        responses = []
        for _ in range(2):  # the second time every blob is there already
            request = control_pb2.SolveRequest(
                Ref=os.urandom(8).hex(),
                Session=attachment.id,
                Definition=copy_of_local("ours"),
                Exporters=[control_pb2.Exporter(Type="oci", Attrs={"tar": "false"})],
            )
            response = await control.Solve(request, timeout=PATIENCE)
            responses.append(dict(response.ExporterResponse))
        assert not attachment.ended.done()
    assert responses[0]["containerimage.digest"] == responses[1]["containerimage.digest"]
    assert files.asked_for[0] == "ours"
    root = Descriptor.from_dict(json.loads(base64.b64decode(responses[0]["containerimage.descriptor"])))
    manifest = json.loads(await read_blob(layout, root))
    for blob in [manifest["config"], *manifest["layers"]]:
        descriptor = Descriptor.from_dict(blob)
        assert digest_bytes(await read_blob(layout, descriptor)) == descriptor.digest
    assert sum(layer["size"] for layer in manifest["layers"]) > len(files.data)
