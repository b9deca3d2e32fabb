"""The receiver's side of fsutil's protocol (fsutil: ``Receive``).

The sender lists all files in order. Meanwhile, the receiver requests contents, which arrive in any order.
When it has everything, it says so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, aclosing, suppress
from pathlib import Path

from google.protobuf.message import DecodeError

from exporter.content.threads import iterate_in_thread, run_in_thread
from exporter.errors import (
    ExporterError,
    FailedPreconditionError,
    InvalidArgumentError,
    failure_of,
)
from exporter.exporters.files.directory import DirectoryWriter, NewFile
from exporter.exporters.files.entry import FileEntry
from exporter.pb.fsutil.types import wire_pb2
from exporter.remotes.messages.stats import entry_of
from exporter.rpc.inbox import ByteStream, Inbox

__all__ = ["ByteStream", "receive_directory"]

Packet = wire_pb2.Packet

_OPEN_FILES = 64
"""The maximum number of contents requested at once; each takes two file descriptors."""


async def receive_directory(stream: ByteStream, path: Path, *, delete: bool) -> None:
    """Receive a tree of files into a directory. Failures are reported to the sender.

    Args:
        stream: The stream to the sender.
        path: The directory, which is created if necessary.
        delete: Whether to remove everything else from it once all files have arrived.

    Raises:
        FailedPreconditionError: the sender failed, or the path is not a directory.
        InvalidArgumentError: the sender violates the protocol.
        DataLossError: the length of a content differs from the announced one.
        UnavailableError: the sender has disconnected.
        OSError: a file cannot be written.
    """
    with ExitStack() as stack:
        try:
            writer = await run_in_thread(stack.enter_context, DirectoryWriter.open(path, delete=delete))
            await _Transfer(stream, writer).run()
        except (ExporterError, OSError) as error:
            text = failure_of(error).message.encode("utf-8", "backslashreplace")
            with suppress(Exception):  # best effort: the end of the call also tells the sender
                await stream.write(Packet(type=Packet.PACKET_ERR, data=text).SerializeToString())
            raise
        finally:
            await run_in_thread(stack.close)


class _Transfer:
    """Moves messages between a stream and an `_Assembler`, which blocks."""

    def __init__(self, stream: ByteStream, writer: DirectoryWriter) -> None:
        self._stream = stream
        self._writer = writer
        self._inbox = Inbox("the sender of the files went away before it had sent all")

    async def run(self) -> None:
        reading = asyncio.create_task(self._inbox.fill(self._stream), name="fsutil: messages")
        assembler = _Assembler(self._writer)
        try:
            while not assembler.has_all:
                await self._proceed(assembler)
            async with aclosing(iterate_in_thread(self._writer.finish())) as steps:
                async for _ in steps:
                    pass
            await self._stream.write(Packet(type=Packet.PACKET_FIN).SerializeToString())
            while not assembler.is_over:
                await self._proceed(assembler)
        finally:
            reading.cancel()
            # This comes first, because it cannot be interrupted: a second cancellation would end any other
            # wait.
            await run_in_thread(assembler.close)
            await asyncio.wait([reading])

    async def _proceed(self, assembler: _Assembler) -> None:
        for number in await run_in_thread(assembler.take, await self._inbox.take()):
            await self._stream.write(Packet(type=Packet.PACKET_REQ, ID=number).SerializeToString())


class _Assembler:
    """Assembles files from messages. All calls block.

    Attributes:
        has_all: Whether all files have been listed, and all contents have arrived.
        is_over: Whether the sender has finished.
    """

    def __init__(self, writer: DirectoryWriter) -> None:
        self._writer = writer
        self._count = 0
        self._wanted: deque[tuple[int, FileEntry]] = deque()
        self._open: dict[int, NewFile] = {}
        self._is_told = False
        self.is_over = False

    @property
    def has_all(self) -> bool:
        return self._is_told and not self._wanted and not self._open

    def take(self, messages: Sequence[bytes]) -> list[int]:
        """Process messages, and return the numbers of the files whose contents to request."""
        requests: list[int] = []
        for message in messages:
            try:
                packet = Packet.FromString(message)
            except DecodeError as error:
                raise InvalidArgumentError(
                    f"the sender's message is not a packet of fsutil: {error}"
                ) from error
            self._take(packet)
            requests += self._ask()
        return requests

    def close(self) -> None:
        """Drop incomplete files."""
        while self._open:
            self._open.popitem()[1].discard()

    def _take(self, packet: wire_pb2.Packet) -> None:
        match packet.type:
            case Packet.PACKET_STAT:
                self._take_stat(packet)
            case Packet.PACKET_DATA:
                self._take_data(packet)
            case Packet.PACKET_FIN:
                if not self.has_all:
                    raise FailedPreconditionError("the sender has ended before all files were there")
                self.is_over = True
            case Packet.PACKET_ERR:
                text = packet.data.decode("utf-8", "backslashreplace")
                raise FailedPreconditionError(f"error from sender: {text}")
            case _:
                raise InvalidArgumentError(f"a sender of files does not send packets of type {packet.type}")

    def _take_stat(self, packet: wire_pb2.Packet) -> None:
        if self._is_told:
            raise InvalidArgumentError("the sender announces a file after the last one")
        if not packet.HasField("stat"):
            self._is_told = True
            return
        entry = entry_of(packet.stat)
        if self._writer.add(entry):
            self._wanted.append((self._count, entry))
        self._count += 1

    def _take_data(self, packet: wire_pb2.Packet) -> None:
        file = self._open.get(packet.ID)
        if file is None:
            raise InvalidArgumentError(f"invalid file request {packet.ID}")
        if packet.data:
            file.write(packet.data)
        else:
            file.commit()
            del self._open[packet.ID]

    def _ask(self) -> Iterator[int]:
        while self._wanted and len(self._open) < _OPEN_FILES:
            number, entry = self._wanted.popleft()
            file = self._writer.new_file(entry)
            if entry.size:
                self._open[number] = file
                yield number
            else:
                with file:
                    file.commit()
