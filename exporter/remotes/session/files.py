"""The files of a ref, sent by its owner (``RefService.ReadFiles``): fsutil's receiver, into a temporary file.

The owner lists all files in order. Contents are requested as they are fetched, and arrive in any order.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from exporter.content.threads import run_in_thread
from exporter.errors import (
    DataLossError,
    ExporterError,
    FailedPreconditionError,
    InvalidArgumentError,
    naming,
)
from exporter.pb.fsutil.types import wire_pb2
from exporter.remotes.messages.stats import entry_of, is_socket
from exporter.rpc.calls import CallStream
from exporter.rpc.inbox import Inbox
from exporter.source.files import BytesContent, Content, FileEntry, RefTree, shown

__all__ = ["READ_FILES_METHOD", "REF_ID", "receiving_files"]

READ_FILES_METHOD = "/buildkit.exporter.v1.RefService/ReadFiles"

REF_ID = "ref-id-bin"
"""Metadata key of the call: the ref's ID, as bytes."""

Packet = wire_pb2.Packet

_REQUESTED = 64
"""The number of contents to request at once."""

_PIECE_BYTES = 1 << 18


@asynccontextmanager
async def receiving_files(
    ref_id: str, channel: grpc.aio.Channel, scratch: Path
) -> AsyncIterator[RefTree | None]:
    """Receive the files of a ref until the block ends; None if its owner does not send them.

    Args:
        ref_id: The owner's ID for the ref.
        channel: A channel to the owner's ``RefService``.
        scratch: A directory for a temporary file with the contents.

    Raises:
        NotFoundError: the owner does not know the ref, or no longer does.
        FailedPreconditionError: the owner cannot read the files.
        InvalidArgumentError: the owner violates the protocol.
        UnavailableError: the owner is gone.
    """
    what = f"cannot read the files of ref {ref_id}"
    # The stub has no way to send messages that are already serialized.
    call: grpc.aio.StreamStreamCall[bytes, bytes]
    call = channel.stream_stream(READ_FILES_METHOD)(metadata=((REF_ID, ref_id.encode()),))
    stream = CallStream(call, what)
    inbox = Inbox(f"{what}: their owner went away before it had sent all")
    reading = asyncio.create_task(inbox.fill(stream), name="files of a ref")
    try:
        with ExitStack() as stack:
            with naming(scratch):
                file = stack.enter_context(await run_in_thread(_temporary_file, scratch))
            tree = _ReceivedTree(stream, inbox, file, scratch, what)
            if not await _list(tree):
                yield None
                return
            yield tree
            await tree.finish()
    finally:
        reading.cancel()
        call.cancel()
        await asyncio.wait([reading])


async def _list(tree: _ReceivedTree) -> bool:
    try:
        await tree.list()
    except ExporterError as error:
        cause = error.__cause__
        if isinstance(cause, grpc.aio.AioRpcError) and cause.code() is grpc.StatusCode.UNIMPLEMENTED:
            return False
        raise
    return True


class _ReceivedTree:
    """See `RefTree`.

    Args:
        stream: The call.
        inbox: Receives its messages.
        file: Contents are written into it.
        scratch: Its directory, for errors.
        what: The purpose of the call, for errors.
    """

    def __init__(self, stream: CallStream, inbox: Inbox, file: BinaryIO, scratch: Path, what: str) -> None:
        self._stream = stream
        self._inbox = inbox
        self._file = file
        self._scratch = scratch
        self._what = what
        self._entries: list[FileEntry] = []
        self._numbers: dict[bytes, int] = {}
        self._sizes: dict[bytes, int] = {}
        self._count = 0
        self._is_listed = False
        self._places: dict[int, _Place] = {}
        self._end = 0
        self._has_ended = False

    @property
    def entries(self) -> Sequence[FileEntry]:
        """See `RefTree.entries`."""
        return self._entries

    async def list(self) -> None:
        """Receive the list of files."""
        while not self._is_listed:
            messages = await self._inbox.take()
            await run_in_thread(self._take, messages)

    async def fetch(self, entries: Iterable[FileEntry]) -> None:
        """See `RefTree.fetch`."""
        numbers = deque(self._wanted(entries))
        await run_in_thread(os.truncate, self._file.fileno(), self._end)  # holes are not written
        pending = 0
        while numbers or pending:
            while numbers and pending < _REQUESTED:
                await self._send(Packet(type=Packet.PACKET_REQ, ID=numbers.popleft()))
                pending += 1
            pending -= await run_in_thread(self._take, await self._inbox.take())

    async def finish(self) -> None:
        """Tell the owner that nothing more is wanted, and wait for its end."""
        await self._send(Packet(type=Packet.PACKET_FIN))
        while not self._has_ended:
            await run_in_thread(self._take, await self._inbox.take())
        await self._stream.finish()

    def pieces(self, number: int) -> Iterator[bytes]:
        """Read a content that has been fetched. Blocks."""
        place = self._places[number]
        for start in range(0, place.size, _PIECE_BYTES):
            size = min(_PIECE_BYTES, place.size - start)
            yield os.pread(self._file.fileno(), size, place.offset + start)

    def _wanted(self, entries: Iterable[FileEntry]) -> Iterator[int]:
        """Assign places in the file to contents that have none yet."""
        for entry in entries:
            # A hard link has the content of the entry that it is a link to.
            number = self._numbers[entry.link if entry.is_hard_link else entry.path]
            if entry.size and (entry.has_content or entry.is_hard_link) and number not in self._places:
                self._places[number] = _Place(self._end, entry.size)
                self._end += entry.size
                yield number

    async def _send(self, packet: wire_pb2.Packet) -> None:
        await self._stream.write(packet.SerializeToString())

    def _take(self, messages: Sequence[bytes]) -> int:
        """Process messages, and return how many contents have arrived. Blocks."""
        done = 0
        for message in messages:
            try:
                packet = Packet.FromString(message)
            except DecodeError as error:
                text = f"{self._what}: a message is not a packet of fsutil: {error}"
                raise InvalidArgumentError(text) from error
            match packet.type:
                case Packet.PACKET_STAT:
                    self._take_stat(packet)
                case Packet.PACKET_DATA:
                    done += self._take_data(packet)
                case Packet.PACKET_FIN:
                    self._has_ended = True
                case Packet.PACKET_ERR:
                    text = packet.data.decode("utf-8", "backslashreplace")
                    raise FailedPreconditionError(f"{self._what}: {text}")
                case _:
                    text = f"{self._what}: a sender of files does not send packets of type {packet.type}"
                    raise InvalidArgumentError(text)
        return done

    def _take_stat(self, packet: wire_pb2.Packet) -> None:
        if self._is_listed:
            raise InvalidArgumentError(f"{self._what}: a file is listed after the last one")
        if not packet.HasField("stat"):
            self._is_listed = True
            return
        number, self._count = self._count, self._count + 1
        if is_socket(packet.stat):
            return  # without its process it is nothing, and neither layers nor archives have any
        entry = entry_of(packet.stat)
        if entry.is_hard_link:
            # Its own size counts for nothing: limits apply to the entry that it is a link to.
            entry = replace(entry, size=self._sizes.get(entry.link, 0))
            content: Content = _Received(self, self._numbers.get(entry.link, number))
        else:
            content = _Received(self, number) if entry.has_content and entry.size else BytesContent(b"")
        self._numbers[entry.path] = number
        self._sizes[entry.path] = entry.size
        self._entries.append(replace(entry, content=content))

    def _take_data(self, packet: wire_pb2.Packet) -> bool:
        place = self._places.get(packet.ID)
        if place is None or place.is_complete:
            raise InvalidArgumentError(f"{self._what}: content that was not requested: {packet.ID}")
        if not packet.data:
            if place.written != place.size:
                raise self._wrong_size(packet.ID, place)
            place.is_complete = True
            return True
        if place.written + len(packet.data) > place.size:
            raise self._wrong_size(packet.ID, place)
        if packet.data.count(0) != len(packet.data):  # else a hole stays
            with naming(self._scratch):
                _write(self._file.fileno(), packet.data, place.offset + place.written)
        place.written += len(packet.data)
        return False

    def _wrong_size(self, number: int, place: _Place) -> DataLossError:
        path = next(path for path, other in self._numbers.items() if other == number)
        return DataLossError(f"{self._what}: {shown(path)} does not have the announced {place.size} bytes")


@dataclass(slots=True)
class _Place:
    """The place of a content in the file."""

    offset: int
    size: int
    written: int = 0
    is_complete: bool = False


@dataclass(frozen=True, slots=True)
class _Received:
    """A content that can be read once it has been fetched."""

    tree: _ReceivedTree
    number: int

    def pieces(self) -> Iterator[bytes]:
        """See `Content.pieces`."""
        return self.tree.pieces(self.number)


def _temporary_file(directory: Path) -> BinaryIO:
    return tempfile.TemporaryFile(dir=directory)


def _write(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
