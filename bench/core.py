"""The image core and gzip, compared with Go's standard library (`bench/go`)."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from bench.measure import ROOT, in_pairs, say, seconds_per_call
from bench.options import MissingPeerError, Options, program
from bench.table import Line
from exporter.image import (
    CompressionConfig,
    CompressionType,
    LayerMetadata,
    Time,
    buildkit_image,
    digest_bytes,
    moby_config,
)
from exporter.layer.compression.compress import new_compressor
from exporter.layer.compression.gzip_writer import Pool
from exporter.layer.compression.levels import effective_level

COMMAND = (
    "RUN /bin/sh -c set -eux; apt-get update && apt-get install -y package-{:05} libpackage-dev > /dev/null"
)
START = 1_706_315_448
BASE_ENTRIES = 2
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
GOALS = {10: 0.4, 100: 0.25, 1000: 0.25, 10_000: 0.25}
GZIP_SPEED_GOAL, GZIP_SIZE_GOAL = 3.5, 1.05
GZIP_BYTES = 24 << 20

Flavor = Callable[[], bytes]


def make_config(entries: int) -> bytes:
    """A config as a Dockerfile frontend returns it: only the base image's entries have times."""
    history = []
    for index in range(entries):
        entry: dict[str, object] = {}
        is_base = index < max(BASE_ENTRIES, entries // 5)
        if is_base:
            entry["created"] = Time.from_unix(START, index).marshal()
        entry["created_by"] = COMMAND.format(index)
        if not is_base:
            entry["comment"] = "buildkit.dockerfile.v0"
        if index % 2:
            entry["empty_layer"] = True
        history.append(entry)
    config = {
        "architecture": "amd64",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"],
            "Entrypoint": ["/docker-entrypoint.sh"],
            "Cmd": ["nginx", "-g", "daemon off;"],
            "ExposedPorts": {"80/tcp": {}},
            "Labels": {"maintainer": "a <a@example.com>"},
            "WorkingDir": "/src",
        },
        "history": history,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest_bytes(b"base")]},
    }
    return json.dumps(config, separators=(",", ":")).encode()


def flavors(config: bytes, layers: int) -> dict[str, Flavor]:
    """What computes an image with so many layers, by flavor; returns all bytes that it makes."""
    chain = [
        LayerMetadata(f"RUN step {index:05}", Time.from_unix(START + 60, index)) for index in range(layers)
    ]
    diff_ids = [digest_bytes(b"%d" % index) for index in range(layers)]
    descriptors = [
        {
            "mediaType": LAYER_TYPE,
            "digest": digest,
            "size": 1000,
            "annotations": {"containerd.io/uncompressed": digest},
        }
        for digest in diff_ids
    ]

    def moby() -> bytes:
        made = moby_config(config, diff_ids, chain)
        digest_bytes(made)
        return made

    def buildkit() -> bytes:
        made = buildkit_image(config, descriptors, chain)
        return made.config + made.manifest

    return {"moby": moby, "buildkit": buildkit}


def build_go(options: Options) -> Path:
    """Build the Go program.

    Raises:
        MissingPeerError: there is no Go.
    """
    go = Path(sys.executable).with_name("go")
    command = str(go) if go.exists() else program("go")
    path = options.directory / "go-bench"
    env = {
        **os.environ,
        "GOFLAGS": "-mod=mod",
        "GOTOOLCHAIN": "local",
        "GOCACHE": str(options.directory / "go"),
    }
    done = subprocess.run(
        [command, "build", "-o", str(path), "."],
        cwd=ROOT / "bench" / "go",
        env=env,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise MissingPeerError(f"go build: {done.stderr.strip()}")
    return path


def run_go(path: Path, *words: str) -> dict[str, Any]:
    """Run the Go program; returns what it printed."""
    done = subprocess.run([str(path), *words], check=True, capture_output=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _seconds_in_go(path: Path, words: Sequence[str]) -> float:
    return float(run_go(path, *words)["seconds"])


def image_lines(options: Options) -> Iterator[Line]:
    """Measure the image core, each number of history entries in both flavors."""
    go = build_go(options)
    for entries, goal in GOALS.items():
        config = make_config(entries)
        path = options.directory / "config.json"
        path.write_bytes(config)
        layers = (entries + 1) // 2
        for flavor, call in flavors(config, layers).items():
            say(f"image core, {flavor}, {entries} entries")
            turn = 0.05 if options.quick else 0.3

            made = run_go(go, flavor, str(path), str(layers), "0")["digest"]
            if made != digest_bytes(call()):
                raise AssertionError(f"Go computes another image: {made}")
            words = (flavor, str(path), str(layers), str(turn))
            pair = in_pairs(
                partial(seconds_per_call, call, turn), partial(_seconds_in_go, go, words), options.pick(9, 3)
            )
            ours, theirs = pair.best
            yield Line(
                "core",
                f"image core, {flavor}, {entries:,} history entries",
                ours * 1e6,
                "µs",
                value=ours / theirs,
                peer=theirs * 1e6,
                peer_name="Go",
                goal=goal,
            )


def system_files(size: int) -> bytes:
    """Bytes of Python's library and of programs, half each: much like a layer with a distribution."""
    pieces: list[bytes] = []
    for directory, pattern in (
        (Path(sysconfig.get_path("stdlib")), "*.py"),
        (Path("/usr/bin"), "*"),
    ):
        left = size // 2
        for path in sorted(directory.glob(pattern)):
            if left <= 0:
                break
            if path.is_file():
                try:
                    data = path.read_bytes()[:left]
                except OSError:
                    continue
                pieces.append(data)
                left -= len(data)
    return b"".join(pieces)


def gzip_lines(options: Options) -> Iterator[Line]:
    """Measure gzip at the level that both sides use if none is named, by processor time."""
    go = build_go(options)
    data = system_files(options.pick(GZIP_BYTES, GZIP_BYTES // 4))
    path = options.directory / "gzip-input"
    path.write_bytes(data)
    sizes: dict[str, int] = {}

    def ours() -> float:
        out = io.BytesIO()
        with ThreadPoolExecutor(1) as executor:
            start = time.process_time()
            level = effective_level(CompressionConfig(CompressionType.GZIP))
            compressor = new_compressor(CompressionType.GZIP, level, out, Pool(executor, 1))
            for offset in range(0, len(data), 1 << 20):
                compressor.write(data[offset : offset + (1 << 20)])
            compressor.finish()
        sizes["ours"] = len(out.getvalue())
        return time.process_time() - start

    def peer() -> float:
        result = run_go(go, "gzip", str(path))
        sizes["go"] = result["size"]
        return float(result["seconds"])

    say("gzip")
    mine, theirs = in_pairs(ours, peer, options.pick(5, 2)).best
    megabytes = len(data) / 1e6
    yield Line(
        "gzip",
        "gzip of system files at the default level, by processor time",
        megabytes / mine,
        "MB/s",
        value=theirs / mine,
        peer=megabytes / theirs,
        peer_name="Go",
        goal=GZIP_SPEED_GOAL,
        at_least=True,
        note="isa-l would give other bytes on other processors",
    )
    yield Line(
        "gzip",
        "the same: size of the result",
        sizes["ours"] / 1e6,
        "MB",
        value=sizes["ours"] / sizes["go"],
        peer=sizes["go"] / 1e6,
        peer_name="Go",
        goal=GZIP_SIZE_GOAL,
    )
