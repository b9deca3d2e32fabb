"""Pushing to a registry, archives on a slow disk, and containerd: where an image goes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.measure import OURS, Pair, in_pairs, say, seconds_of
from bench.options import MissingPeerError, Options, program
from bench.sources import make_source
from bench.table import Line

MIB = 1 << 20
LAYER_MIB = 256
PUSH_GOAL = 0.6
ARCHIVE_GOAL = 0.4
DISK_SPEED = 150 * 10**6
"""Bytes per second that the slow disk writes."""

_THROTTLE = Path("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device")
_STARTING_SECONDS = 30


def push_lines(options: Options) -> Iterator[Line]:
    """Push an image of two layers to an empty registry, by the command line and by skopeo."""
    registry, skopeo = program("docker-registry"), program("skopeo")
    mib = options.pick(LAYER_MIB, LAYER_MIB // 4)
    source, layout = _image(options, mib)

    def ours() -> float:
        with _registry(options.directory, registry) as host:
            output = f"type=image,name={host}/x/y,push=true,registry.insecure=true"
            return _export(options, source, output)

    def peer() -> float:
        with _registry(options.directory, registry) as host:
            words = ["copy", "-q", "--dest-tls-verify=false", f"oci:{layout}:latest", f"docker://{host}/x/y"]
            return seconds_of([skopeo, *words], _home(options))

    say(f"push of 2 × {mib} MiB")
    pair = in_pairs(ours, peer, options.pick(5, 2), warm_up=not options.quick)
    yield _line("push", f"push of 2 × {mib} MiB to docker-registry, kept in the store, too", pair, PUSH_GOAL)

    def not_stored() -> float:
        with _registry(options.directory, registry) as host:
            output = f"type=image,name={host}/x/y,push=true,store=false,registry.insecure=true"
            return _export(options, source, output)

    pair = in_pairs(not_stored, peer, options.pick(5, 2), warm_up=False)
    yield _line("push", "the same with store=false", pair, PUSH_GOAL)


def archive_lines(options: Options) -> Iterator[Line]:
    """Write an OCI archive to a disk of limited speed, by the command line and by skopeo with a sync."""
    skopeo = program("skopeo")
    mib = options.pick(LAYER_MIB, LAYER_MIB // 4)
    source, layout = _image(options, mib)
    with _slow_disk(options.directory, size=mib * 12 * MIB) as disk:

        def ours() -> float:
            return _export(options, source, f"type=oci,dest={disk}/ours.tar")

        def peer() -> float:
            words = ["--tmpdir", str(disk), "copy", "-q"]
            start = time.perf_counter()
            seconds_of(
                [skopeo, *words, f"oci:{layout}:latest", f"oci-archive:{disk}/skopeo.tar:x"], _home(options)
            )
            _sync(disk / "skopeo.tar")
            seconds = time.perf_counter() - start
            (disk / "skopeo.tar").unlink()
            return seconds

        say(f"archive of 2 × {mib} MiB on a slow disk")
        pair = in_pairs(ours, peer, options.pick(5, 2), warm_up=False)
        limit = 2 * mib * MIB / DISK_SPEED
        note = f"the disk alone: {limit:.1f} s for our bytes; skopeo writes them twice"
        yield _line(
            "archive", f"OCI archive of 2 × {mib} MiB on a disk of 150 MB/s", pair, ARCHIVE_GOAL, note
        )


def _line(group: str, what: str, pair: Pair, goal: float, note: str = "") -> Line:
    ours, peer = pair.medians
    return Line(group, what, ours, "s", value=pair.ratio, peer=peer, peer_name="skopeo", goal=goal, note=note)


def _image(options: Options, mib: int) -> tuple[Path, Path]:
    """A saved source with two layers, and the same image as an OCI layout."""
    source, layout = options.directory / "two-layers", options.directory / "two-layers-layout"
    if not source.exists():
        say(f"making two layers of {mib} MiB")
        make_source(source, [mib * MIB, mib * MIB])
        _export(options, source, f"type=oci,tar=false,dest={layout}")
    return source, layout


def _export(options: Options, source: Path, output: str) -> float:
    root = options.directory / "export-root"
    try:
        words = ["export", "--source", str(source), "--output", output, "--progress", "quiet"]
        return seconds_of([*OURS, *words, "--root", str(root)])
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _home(options: Options) -> dict[str, str]:
    """An environment in which skopeo remembers no blobs of earlier rounds."""
    home = options.directory / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    policy = home / ".config" / "containers" / "policy.json"
    policy.parent.mkdir(parents=True)
    policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    return {**os.environ, "HOME": str(home), "XDG_DATA_HOME": str(home), "XDG_CACHE_HOME": str(home)}


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _registry(directory: Path, command: str) -> Iterator[str]:
    """An empty registry; gives ``host:port``."""
    data = directory / "registry"
    data.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    settings = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(data)}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    config = directory / "registry.yml"
    config.write_text(json.dumps(settings))
    process = subprocess.Popen(
        [command, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + _STARTING_SECONDS
        while not _accepts(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise MissingPeerError("docker-registry does not start")
            time.sleep(0.02)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(data)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _slow_disk(directory: Path, size: int) -> Iterator[Path]:
    """A file system on a loop device whose writes the kernel limits.

    Raises:
        MissingPeerError: we may not do that, or this kernel cannot.
    """
    if os.geteuid() or not _THROTTLE.exists():
        raise MissingPeerError("a slow disk needs root, and blkio.throttle of control groups v1")
    image, disk = directory / "disk.img", directory / "disk"
    with image.open("wb") as file:
        file.truncate(size)
    disk.mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(image.unlink)
        device = _output("losetup", "-f", "--show", str(image))
        stack.callback(_output, "losetup", "-d", device)
        number = Path(f"/sys/block/{Path(device).name}/dev").read_text(encoding="ascii").strip()
        _output("mkfs.ext4", "-q", device)
        _output("mount", device, str(disk))
        stack.callback(_output, "umount", str(disk))
        _THROTTLE.write_text(f"{number} {DISK_SPEED}", encoding="ascii")
        stack.callback(_THROTTLE.write_text, f"{number} 0", encoding="ascii")
        yield disk


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise MissingPeerError(f"{command[0]}: {error}") from error
    return done.stdout.strip()
