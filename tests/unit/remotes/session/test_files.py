from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from exporter.daemon.services.refs import RefServicer
from exporter.errors import (
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from exporter.exporters.files.read import RefFiles
from exporter.exporters.files.ref import adjusted
from exporter.pb.fsutil.types import stat_pb2, wire_pb2
from exporter.remotes.session.files import READ_FILES_METHOD
from exporter.remotes.session.refs import SessionRef
from exporter.rpc.session.handling import add_stream_method
from exporter.source.files import FileEntry, Kind
from exporter.testing import DirectoryRef
from tests.sessions import attached, serving
from tests.unit.source.test_session import ref_of

Packet = wire_pb2.Packet
BEFORE_1970 = -(10**9) - 1


def make_tree(root: Path) -> None:
    (root / "a").mkdir(parents=True)
    (root / "a" / "file").write_bytes(b"x" * 300_000)
    (root / "a" / "empty").touch()
    (root / "a" / "holes").touch()
    os.truncate(root / "a" / "holes", 1 << 20)
    (root / "a" / "link").hardlink_to(root / "a" / "file")
    (root / "b").symlink_to("a/file")
    os.mkfifo(root / "c")
    (root / "a" / "file").chmod(0o4755)
    os.utime(root / "a" / "file", ns=(BEFORE_1970, BEFORE_1970))
    os.utime(root / "a", ns=(0, 1_700_000_000_123_456_789))


def names_in(path: Path) -> list[str]:
    return [entry.name for entry in path.iterdir()]


def content(entry: FileEntry) -> bytes:
    return b"".join(entry.content.pieces())


async def test_files_arrive_as_they_are_to_the_nanosecond(tmp_path: Path) -> None:
    make_tree(tmp_path / "ref")
    servicer = RefServicer({"r": DirectoryRef("r", tmp_path / "ref")})
    async with attached(servicer.register) as session:
        assert session.supports(READ_FILES_METHOD)
        async with SessionRef("r", session.channel).files(tmp_path) as tree:
            assert tree is not None
            await tree.fetch(tree.entries)
            entries = {entry.path: entry for entry in tree.entries}
            assert list(entries) == [b"a", b"a/empty", b"a/file", b"a/holes", b"a/link", b"b", b"c"]
            assert entries[b"a"].mtime == 1_700_000_000_123_456_789
            file = entries[b"a/file"]
            assert (file.mtime, file.mode, file.uid, file.gid) == (
                BEFORE_1970,
                0o4755,
                os.getuid(),
                os.getgid(),
            )
            assert content(file) == b"x" * 300_000
            assert content(entries[b"a/holes"]) == bytes(1 << 20)
            assert content(entries[b"a/empty"]) == b""
            assert (entries[b"a/link"].link, entries[b"b"].link) == (b"a/file", b"a/file")
            assert entries[b"c"].kind is Kind.FIFO
            (first,) = (
                e for e in adjusted(tree.entries, hidden=frozenset({b"a/file"})) if e.path == b"a/link"
            )
            assert first.has_content
            assert content(first) == b"x" * 300_000
    assert names_in(tmp_path) == ["ref"]


async def test_only_wanted_contents_are_fetched_and_each_once(tmp_path: Path) -> None:
    make_tree(tmp_path / "ref")
    requested: list[bytes] = []
    servicer = RefServicer({"r": Watched(tmp_path / "ref", requested)})
    async with attached(servicer.register) as session:
        async with RefFiles.open(SessionRef("r", session.channel), tmp_path) as files:
            assert await files.read("/b", limit=1 << 20) == b"x" * 300_000  # through the symbolic link
            assert await files.read("a/link", limit=1 << 20) == b"x" * 300_000
            with pytest.raises(NotFoundError):
                await files.read("nothing", limit=1)
        assert requested == [b"a/file"]


class Watched(DirectoryRef):
    def __init__(self, path: Path, requested: list[bytes]) -> None:
        super().__init__("r", path)
        self._requested = requested

    def opened(self, entry: FileEntry) -> None:
        self._requested.append(entry.path)


async def test_refs_of_layers_are_read_from_their_layers(tmp_path: Path) -> None:
    async with serving(RefServicer({"r": await ref_of()}).register) as channel:
        async with SessionRef("r", channel).files(tmp_path) as tree:
            assert tree is None
        with pytest.raises(NotFoundError, match="unknown"):
            async with SessionRef("unknown", channel).files(tmp_path):
                pass


@asynccontextmanager
async def sent(tmp_path: Path, *packets: wire_pb2.Packet) -> AsyncIterator[None]:
    """What a faulty owner sends, in answer to the call or to the first request."""

    async def send(request_iterator: object, context: Any) -> None:
        for packet in packets:
            if packet.type == Packet.PACKET_DATA:
                await context.read()
            await context.write(packet.SerializeToString())
        await asyncio.Event().wait()

    def register(server: grpc.aio.Server) -> None:
        add_stream_method(server, "buildkit.exporter.v1.RefService", "ReadFiles", send)

    async with (
        attached(register) as session,
        SessionRef("r", session.channel).files(tmp_path) as tree,
    ):
        assert tree is not None
        await tree.fetch(tree.entries)
        yield


END = Packet(type=Packet.PACKET_STAT)
FILE = Packet(type=Packet.PACKET_STAT, stat=stat_pb2.Stat(path=b"f", size=3))


@pytest.mark.parametrize(
    ("packets", "error", "text"),
    [
        (
            [Packet(type=Packet.PACKET_ERR, data=b"no mount")],
            FailedPreconditionError,
            "files of ref r: no mount",
        ),
        (
            [FILE, END, Packet(type=Packet.PACKET_DATA, ID=0)],
            DataLossError,
            "f does not have the announced 3",
        ),
        (
            [FILE, END, Packet(type=Packet.PACKET_DATA, ID=0, data=b"four")],
            DataLossError,
            "announced 3 bytes",
        ),
        (
            [FILE, END, Packet(type=Packet.PACKET_DATA, ID=1, data=b"x")],
            InvalidArgumentError,
            "not requested: 1",
        ),
        ([END, FILE], InvalidArgumentError, "after the last one"),
        ([Packet(type=Packet.PACKET_REQ)], InvalidArgumentError, "packets of type 1"),
    ],
)
async def test_faulty_owners(
    tmp_path: Path, packets: list[wire_pb2.Packet], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        async with sent(tmp_path, *packets):
            pass
    assert not names_in(tmp_path)


async def test_an_owner_that_goes_away(tmp_path: Path) -> None:
    async def end(request_iterator: object, context: Any) -> None:
        await context.write(FILE.SerializeToString())

    def register(server: grpc.aio.Server) -> None:
        add_stream_method(server, "buildkit.exporter.v1.RefService", "ReadFiles", end)

    async with attached(register) as session:
        with pytest.raises(UnavailableError, match="went away"):
            async with SessionRef("r", session.channel).files(tmp_path):
                pass
