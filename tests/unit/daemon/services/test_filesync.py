"""Local directories through a session, as a daemon asks for them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from exporter.daemon.services.filesync import FileSyncServicer
from exporter.pb.fsutil.types import stat_pb2, wire_pb2
from exporter.pb.moby.filesync.v1 import filesync_pb2_grpc
from tests.sessions import PATIENCE, serving

Packet = wire_pb2.Packet


@asynccontextmanager
async def syncing(root: Path, *metadata: tuple[str, str], name: str = "context") -> AsyncIterator[Any]:
    """A call of a daemon that wants a directory."""
    async with serving(FileSyncServicer({"context": root}).register) as channel:
        call = filesync_pb2_grpc.FileSyncStub(channel).DiffCopy(metadata=(("dir-name", name), *metadata))
        async with asyncio.timeout(PATIENCE):
            yield call


async def receive(
    call: Any, wanted: Callable[[stat_pb2.Stat], bool] = lambda _: True
) -> tuple[list[str], dict[str, bytes]]:
    """Act as the daemon: request the contents of the wanted files."""
    paths: list[str] = []
    contents: dict[int, bytearray] = {}
    missing: set[int] = set()
    all_told = False
    while not all_told or missing:
        packet = await call.read()
        assert isinstance(packet, Packet), await call.details()
        if packet.type == Packet.PACKET_STAT:
            if not packet.HasField("stat"):
                all_told = True
                continue
            number = len(paths)
            paths.append(os.fsdecode(packet.stat.path))
            if packet.stat.mode < 1 << 20 and wanted(packet.stat):
                contents[number] = bytearray()
                missing.add(number)
                await call.write(Packet(type=Packet.PACKET_REQ, ID=number))
        else:
            assert packet.type == Packet.PACKET_DATA, packet
            contents[packet.ID] += packet.data
            if not packet.data:
                missing.remove(packet.ID)
    await call.write(Packet(type=Packet.PACKET_FIN))
    assert (await call.read()).type == Packet.PACKET_FIN
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK
    return paths, {paths[number]: bytes(data) for number, data in contents.items()}


def make_files(root: Path) -> dict[str, bytes]:
    files = {
        "Dockerfile": b"FROM scratch\n",
        "empty": b"",
        "large": os.urandom((2 << 20) + 17),
        "sub/dir/file": b"x",
        "ü/ß": b"y",
    }
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return files


async def test_all_files(tmp_path: Path) -> None:
    files = make_files(tmp_path)
    async with syncing(tmp_path) as call:
        paths, contents = await receive(call)
    assert paths == ["Dockerfile", "empty", "large", "sub", "sub/dir", "sub/dir/file", "ü", "ü/ß"]
    assert contents == files


async def test_only_what_the_daemon_lacks_is_sent(tmp_path: Path) -> None:
    files = make_files(tmp_path)
    async with syncing(tmp_path) as call:
        paths, contents = await receive(call, lambda entry: entry.path == b"large")
    assert len(paths) == 8
    assert contents == {"large": files["large"]}


async def test_many_files(tmp_path: Path) -> None:
    files = {f"{number:04}": str(number).encode() for number in range(1500)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    async with syncing(tmp_path) as call:
        paths, contents = await receive(call)
    assert paths == sorted(files)
    assert contents == files


async def test_selected_files(tmp_path: Path) -> None:
    make_files(tmp_path)
    (tmp_path / "link").symlink_to("sub/dir")
    async with syncing(tmp_path, ("exclude-patterns", "*"), ("exclude-patterns", "!sub")) as call:
        assert (await receive(call))[0] == ["sub", "sub/dir", "sub/dir/file"]
    async with syncing(tmp_path, ("include-patterns", "empty"), ("followpaths", "link/file")) as call:
        assert (await receive(call))[0] == ["empty", "link", "sub", "sub/dir", "sub/dir/file"]


async def test_patterns_that_are_percent_encoded(tmp_path: Path) -> None:
    make_files(tmp_path)
    encoded = ("include-patterns", "%C3%BC"), ("include-patterns-encoded", "1")
    async with syncing(tmp_path, *encoded) as call:
        assert (await receive(call))[0] == ["ü", "ü/ß"]
    async with syncing(tmp_path, ("include-patterns", "%C3%BC")) as call:
        assert (await receive(call))[0] == []


async def test_the_directory_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").touch()
    (tmp_path / "link").symlink_to("real")
    async with syncing(tmp_path / "link") as call:
        assert (await receive(call))[0] == ["file"]


async def test_no_other_directories(tmp_path: Path) -> None:
    async with syncing(tmp_path, name="etc") as call:
        assert await call.code() is grpc.StatusCode.NOT_FOUND
        assert "no access allowed to dir 'etc'" in await call.details()


async def test_a_malformed_pattern(tmp_path: Path) -> None:
    async with syncing(tmp_path, ("exclude-patterns", "[")) as call:
        packet = await call.read()
        assert packet.type == Packet.PACKET_ERR
        assert b"syntax error in pattern '['" in packet.data
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_file_that_has_vanished_is_empty(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")

    def remove(entry: stat_pb2.Stat) -> bool:
        (tmp_path / os.fsdecode(entry.path)).unlink()
        return True

    async with syncing(tmp_path) as call:
        assert await receive(call, remove) == (["file"], {"file": b""})


async def test_a_file_that_cannot_be_read_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    async with syncing(tmp_path) as call:
        assert (await call.read()).stat.path == b"file"
        (tmp_path / "file").unlink()
        os.mkfifo(tmp_path / "file")
        await call.write(Packet(type=Packet.PACKET_REQ, ID=0))
        packets = await remaining(call)
        assert packets[-1].type == Packet.PACKET_ERR
        assert b"file was replaced by something else" in packets[-1].data
        assert await call.code() is grpc.StatusCode.FAILED_PRECONDITION


async def remaining(call: Any) -> list[wire_pb2.Packet]:
    """What is still sent. Only after it, the call's status can be seen."""
    packets = []
    with suppress(grpc.aio.AioRpcError):
        while isinstance(packet := await call.read(), Packet):
            packets.append(packet)
    return packets


@pytest.mark.parametrize(
    ("request_packet", "text"),
    [
        (Packet(type=Packet.PACKET_REQ, ID=7), "invalid file id 7"),
        (Packet(type=Packet.PACKET_DATA), "a receiver of files does not send packets of type"),
        (Packet(type=Packet.PACKET_ERR, data=b"disk full"), "error from receiver: disk full"),
    ],
)
async def test_a_daemon_that_fails(tmp_path: Path, request_packet: wire_pb2.Packet, text: str) -> None:
    async with syncing(tmp_path) as call:
        await call.write(request_packet)
        await call.done_writing()
        await remaining(call)
        assert await call.code() in {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT}
        assert text in await call.details()


async def test_a_file_can_be_requested_only_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    async with syncing(tmp_path) as call:
        await call.read()
        for _ in range(2):
            await call.write(Packet(type=Packet.PACKET_REQ, ID=0))
        await remaining(call)
        assert "invalid file id 0" in await call.details()


async def test_a_daemon_that_goes_away_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(64 << 20))
    async with syncing(tmp_path) as call:
        await call.read()
        await call.write(Packet(type=Packet.PACKET_REQ, ID=0))
        await call.read()
        call.cancel()
        while any(task.get_name().startswith("fsutil") for task in asyncio.all_tasks()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not [name for name in os.listdir("/proc/self/fd") if _target(name) == str(tmp_path / "large")]  # noqa: PTH208


def _target(descriptor: str) -> str:
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:
        return ""
