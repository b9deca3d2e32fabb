"""Trees of files on the wire, with a peer that behaves, and with peers that do not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.daemon.fsutil import receive as fsutil_receive
from exporter.daemon.fsutil import send as fsutil_send
from exporter.daemon.fsutil.receive import receive_directory
from exporter.daemon.fsutil.send import send_directory
from exporter.errors import (
    DataLossError,
    ExporterError,
    FailedPreconditionError,
    InvalidArgumentError,
    UnavailableError,
)
from exporter.exporters.files.entry import FileEntry
from exporter.layer.tree import Kind
from exporter.pb.fsutil.types import stat_pb2, wire_pb2
from exporter.remotes.messages.stats import entry_of, stat_of
from tests.sessions import PATIENCE
from tests.unit.exporters.files.test_directory import contents, directory, file, hardlink, symlink

Packet = wire_pb2.Packet
BIG = os.urandom((2 << 20) + 17)


class End:
    """One end of a stream between two tasks that holds a few messages."""

    def __init__(self, inbox: asyncio.Queue[Any], outbox: asyncio.Queue[Any]) -> None:
        self.inbox = inbox
        self.outbox = outbox

    async def read(self) -> object:
        message = await self.inbox.get()
        if isinstance(message, Exception):
            raise message
        return message

    async def write(self, *messages: bytes) -> None:
        for message in messages:
            await self.outbox.put(message)


def stream() -> tuple[End, End]:
    one, two = asyncio.Queue[Any](8), asyncio.Queue[Any](8)
    return End(one, two), End(two, one)


async def transfer(path: Path, *entries: FileEntry, delete: bool = False) -> int:
    near, far = stream()
    sent: list[int] = []
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(
            send_directory(near, entries, sent.append), receive_directory(far, path, delete=delete)
        )
    return sum(sent)


# Go's fs.FileMode: the type in the highest bits, set-ID and sticky bits apart from the permissions.
@pytest.mark.parametrize(
    ("kind", "mode", "bits"),
    [
        (Kind.FILE, 0o644, 0o644),
        (Kind.FILE, 0o6755, 1 << 23 | 1 << 22 | 0o755),
        (Kind.DIRECTORY, 0o1777, 1 << 31 | 1 << 20 | 0o777),
        (Kind.SYMLINK, 0o777, 1 << 27 | 0o777),
        (Kind.CHARACTER_DEVICE, 0o600, 1 << 26 | 1 << 21 | 0o600),
        (Kind.BLOCK_DEVICE, 0o660, 1 << 26 | 0o660),
        (Kind.FIFO, 0o622, 1 << 25 | 0o622),
    ],
)
def test_modes(kind: Kind, mode: int, bits: int) -> None:
    entry = FileEntry(path=b"x", kind=kind, mode=mode)
    assert stat_of(entry).mode == bits
    assert entry_of(stat_of(entry)) == entry


@pytest.mark.parametrize("bits", [1 << 24, 1 << 19, 1 << 21, 1 << 31 | 1 << 27])
def test_impossible_entries_are_refused(bits: int) -> None:
    with pytest.raises(InvalidArgumentError, match="x is of an unknown kind"):
        entry_of(stat_pb2.Stat(path=b"x", mode=bits))


@given(
    st.builds(
        FileEntry,
        path=st.binary(),
        kind=st.sampled_from(Kind),
        mode=st.integers(0, 0o7777),
        uid=st.integers(0, 2**32 - 1),
        gid=st.integers(0, 2**32 - 1),
        mtime=st.integers(-(2**63), 2**63 - 1),
        size=st.integers(0, 2**63 - 1),
        link=st.binary(),
        devmajor=st.integers(0, 2**12 - 1),
        devminor=st.integers(0, 2**20 - 1),
        xattrs=st.dictionaries(st.binary(), st.binary()),
        content=st.just(FileEntry(path=b"").content),
    )
)
def test_entries_survive_the_wire(entry: FileEntry) -> None:
    data = stat_of(entry).SerializeToString()
    assert entry_of(stat_pb2.Stat.FromString(data)) == entry


async def test_a_tree(tmp_path: Path) -> None:
    files = [file(f"d/{number:04}", b"%d" % number) for number in range(700)]
    (tmp_path / "old").write_text("old")
    sent = await transfer(
        tmp_path,
        directory("d"),
        *files,
        file("e", b""),
        file("f", BIG),
        hardlink("g", "f"),
        symlink("h", "f"),
        delete=True,
    )
    assert contents(tmp_path) == {
        "d": None,
        **{f"d/{number:04}": b"%d" % number for number in range(700)},
        "e": b"",
        "f": BIG,
        "g": BIG,
        "h": "-> f",
    }
    assert (tmp_path / "g").samefile(tmp_path / "f")
    assert len(BIG) < sent < len(BIG) + 100_000


async def test_no_files(tmp_path: Path) -> None:
    assert await transfer(tmp_path / "out") == 0
    assert contents(tmp_path) == {"out": None}


async def test_sent_bytes_are_counted_as_in_fsutil(tmp_path: Path) -> None:
    # A file of the recorded build "local": 24 bytes for its packet.
    stat = FileEntry.of("a", b"a\n", mtime=1714998897123456789)
    packet = Packet(stat=stat_of(FileEntry(path=b"a", uid=5, gid=6, size=2, mtime=stat.mtime)))
    assert packet.ByteSize() == 24
    assert await transfer(tmp_path, stat) == Packet(stat=stat_of(stat)).ByteSize() + len(
        Packet(type=Packet.PACKET_DATA, data=b"a\n").SerializeToString()
    )


class Breaks:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def pieces(self) -> Iterator[bytes]:
        yield b"x"
        raise self.error


async def test_failures_of_the_sender_reach_the_receiver(tmp_path: Path) -> None:
    near, far = stream()
    (tmp_path / "old").write_text("old")
    broken = FileEntry(path=b"b", size=5, content=Breaks(DataLossError("damaged")))
    results = await asyncio.gather(
        send_directory(near, [file("a"), broken], lambda _: None),
        receive_directory(far, tmp_path, delete=True),
        return_exceptions=True,
    )
    assert [(type(error), str(error)) for error in results] == [
        (DataLossError, "damaged"),
        (FailedPreconditionError, "error from sender: damaged"),
    ]
    assert contents(tmp_path) in ({"old": b"old"}, {"a": b"data", "old": b"old"})


async def test_failures_of_the_receiver_reach_the_sender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsutil_send, "_PATIENCE_SECONDS", 0)
    near, far = stream()
    (tmp_path / "file").touch()
    results = await asyncio.gather(
        send_directory(near, [file("a")], lambda _: None),
        receive_directory(far, tmp_path / "file", delete=True),
        return_exceptions=True,
    )
    assert [type(error) for error in results] == [FailedPreconditionError] * 2
    assert str(results[0]) == f"error from receiver: {results[1]}"


async def test_the_status_of_the_call_has_the_kind_of_failure() -> None:
    near, far = stream()
    sending = asyncio.create_task(send_directory(near, [file("a")], lambda _: None))
    await far.outbox.put(Packet(type=Packet.PACKET_ERR, data=b"disk full").SerializeToString())
    await far.outbox.put(DataLossError("whatever"))
    with pytest.raises(DataLossError, match="error from receiver: disk full"):
        await sending


@pytest.mark.parametrize(
    ("messages", "error", "text"),
    [
        ([b"\xff"], InvalidArgumentError, "not a packet of fsutil"),
        ([Packet(type=Packet.PACKET_REQ, ID=70)], InvalidArgumentError, "invalid file id 70"),
        ([Packet(type=Packet.PACKET_REQ, ID=0)] * 2, InvalidArgumentError, "invalid file id 0"),
        ([Packet(type=Packet.PACKET_DATA, ID=0)], InvalidArgumentError, "does not send packets of type 2"),
        ([None], UnavailableError, "went away"),
        ([UnavailableError("gone")], UnavailableError, "gone"),
    ],
)
async def test_receivers_that_misbehave(
    messages: list[Any], error: type[ExporterError], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsutil_send, "_PATIENCE_SECONDS", 0.1)
    near, far = stream()
    # More than the receiver, who reads nothing after a while, lets through.
    files = [file(f"{number:02}") for number in range(20)]
    sending = asyncio.create_task(send_directory(near, files, lambda _: None))
    await far.inbox.get()
    for message in messages:
        await far.outbox.put(message.SerializeToString() if isinstance(message, Packet) else message)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(error, match=text):
            await sending


def stat(path: bytes, **values: Any) -> wire_pb2.Packet:
    values = {"mode": 0o644, "size": 4, **values}
    return Packet(type=Packet.PACKET_STAT, stat=stat_pb2.Stat(path=path, **values))


def data(number: int, content: bytes) -> wire_pb2.Packet:
    return Packet(type=Packet.PACKET_DATA, ID=number, data=content)


END = Packet(type=Packet.PACKET_STAT)
FIN = Packet(type=Packet.PACKET_FIN)
DIRECTORY = 1 << 31 | 0o755
SYMLINK = 1 << 27 | 0o777


@pytest.mark.parametrize(
    ("messages", "error", "text"),
    [
        ([b"\xff"], InvalidArgumentError, "not a packet of fsutil"),
        ([stat(b"../x")], InvalidArgumentError, "unclean path"),
        ([stat(b"/x")], InvalidArgumentError, "unclean path"),
        ([stat(b"b"), stat(b"a")], InvalidArgumentError, "out of order"),
        ([stat(b"a/b")], InvalidArgumentError, "out of order"),
        ([stat(b"a", mode=SYMLINK, linkname=b"/"), stat(b"a/b")], InvalidArgumentError, "out of order"),
        ([stat(b"a", linkname=b"/etc/passwd")], InvalidArgumentError, "unknown path"),
        ([stat(b"a", mode=1 << 24)], InvalidArgumentError, "unknown kind"),
        ([END, stat(b"a")], InvalidArgumentError, "after the last one"),
        ([stat(b"a"), END, stat(b"b")], InvalidArgumentError, "after the last one"),
        ([data(0, b"x")], InvalidArgumentError, "invalid file request 0"),
        ([stat(b"d", mode=DIRECTORY), data(0, b"x")], InvalidArgumentError, "invalid file request 0"),
        ([stat(b"a"), END, data(0, b"12345")], DataLossError, "a: received 5 bytes instead of 4"),
        ([stat(b"a"), END, data(0, b"1"), data(0, b"")], DataLossError, "a: received 1 bytes"),
        ([stat(b"a"), END, data(0, b"1"), None], UnavailableError, "went away before it had sent all"),
        ([stat(b"a"), END, FIN], FailedPreconditionError, "ended before all files were there"),
        ([Packet(type=Packet.PACKET_REQ)], InvalidArgumentError, "does not send packets of type 1"),
        ([UnavailableError("gone")], UnavailableError, "gone"),
    ],
)
async def test_senders_that_misbehave(
    tmp_path: Path, messages: list[Any], error: type[ExporterError], text: str
) -> None:
    (tmp_path / "old").write_text("old")
    near, far = stream()
    receiving = asyncio.create_task(receive_directory(near, tmp_path, delete=True))

    async def send() -> None:
        for message in messages:
            await far.outbox.put(message.SerializeToString() if isinstance(message, Packet) else message)
        await far.outbox.put(None)

    async with asyncio.timeout(PATIENCE):
        sending = asyncio.create_task(send())
        with pytest.raises(error, match=text):
            await receiving
        sending.cancel()
    if messages[0] != END:  # there all had come, and others may have been removed
        assert contents(tmp_path)["old"] == b"old"
    assert not [name for name in contents(tmp_path) if ".tmp." in name]
    last = None
    while not far.inbox.empty():
        last = Packet.FromString(far.inbox.get_nowait())
    assert last is not None
    assert last.type == Packet.PACKET_ERR


async def test_files_may_arrive_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsutil_receive, "_OPEN_FILES", 2)
    near, far = stream()
    receiving = asyncio.create_task(receive_directory(near, tmp_path, delete=False))
    requested: list[int] = []

    async def send(*packets: wire_pb2.Packet) -> None:
        for packet in packets:
            await far.outbox.put(packet.SerializeToString())

    async def requests(count: int) -> None:
        requested.extend([Packet.FromString(await far.inbox.get()).ID for _ in range(count)])

    async with asyncio.timeout(PATIENCE):
        await send(stat(b"a"), stat(b"b"), stat(b"c"), stat(b"d", size=0), END)
        await requests(2)
        await send(data(1, b"b1"), data(0, b"a1"), data(1, b"b2"), data(1, b""))
        await requests(1)
        assert requested == [0, 1, 2]
        await send(data(2, b"c1c2"), data(0, b"a2"), data(0, b""), data(2, b""))
        assert Packet.FromString(await far.inbox.get()) == FIN
        assert contents(tmp_path) == {"a": b"a1a2", "b": b"b1b2", "c": b"c1c2", "d": b""}
        await send(FIN)
        await receiving


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_cancellation_leaves_nothing_half_written(tmp_path: Path, times: int) -> None:
    """A call can be cancelled by its end and, while that is handled, once more by that of the program."""
    (tmp_path / "old").write_text("old")
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    near, far = stream()
    receiving = asyncio.create_task(receive_directory(near, tmp_path, delete=True))
    for packet in (stat(b"a"), stat(b"b"), END, data(0, b"1")):
        await far.outbox.put(packet.SerializeToString())
    async with asyncio.timeout(PATIENCE):
        await far.inbox.get()
        await far.inbox.get()
        for _ in range(times):
            receiving.cancel()
            await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await receiving
    assert contents(tmp_path) == {"old": b"old"}
    assert set(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
