"""The sender's side of fsutil's protocol (fsutil: ``Send``)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import aclosing, suppress
from itertools import islice

from google.protobuf.message import DecodeError

from exporter.content.threads import StepTimer, iterate_in_thread, run_in_thread
from exporter.daemon.fsutil.receive import ByteStream
from exporter.errors import (
    ExporterError,
    FailedPreconditionError,
    InvalidArgumentError,
    UnavailableError,
    failure_of,
)
from exporter.exporters.files.entry import Content, FileEntry
from exporter.layer.tree import Kind
from exporter.pb.fsutil.types import wire_pb2
from exporter.remotes.messages.stats import stat_of

__all__ = ["send_directory"]

Packet = wire_pb2.Packet

_DATA_BYTES = 512 << 10
"""The size of a packet's content. Each packet has overhead; receivers in Go accept at most 4 MiB."""

_PATIENCE_SECONDS = 5.0
"""The timeout for reporting a failure to the receiver, or for the end of the call after its failure."""

_BATCH_BYTES = 1 << 20
_BATCH_ENTRIES = 256


async def send_directory(
    stream: ByteStream, entries: Iterable[FileEntry], on_sent: Callable[[int], None]
) -> None:
    """Send a tree of files until the receiver has all that it requests. Failures are reported to it.

    Args:
        stream: The stream to the receiver.
        entries: The files, in order.
        on_sent: Called with the number of bytes sent, counted in packets like fsutil.

    Raises:
        FailedPreconditionError: the receiver failed.
        InvalidArgumentError: the receiver violates the protocol.
        UnavailableError: the receiver has disconnected.
        Exception: reading the files failed.
    """
    await _Sender(stream, entries, on_sent).run()


class _PeerError(Exception):
    """Wraps a failure of the peer, which must not be reported back to it. Private to this module."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


class _Sender:
    def __init__(
        self, stream: ByteStream, entries: Iterable[FileEntry], on_sent: Callable[[int], None]
    ) -> None:
        self._stream = stream
        self._entries = iter(entries)
        self._on_sent = on_sent
        self._contents: dict[int, Content] = {}
        self._wanted: deque[tuple[int, Content]] = deque()
        self._receiver_has_all = False
        self._changed = asyncio.Event()

    async def run(self) -> None:
        requests = asyncio.create_task(self._take_requests(), name="fsutil: requests")
        files = asyncio.create_task(self._send(), name="fsutil: files")
        try:
            await asyncio.wait((requests, files), return_when=asyncio.FIRST_EXCEPTION)
            for task in (requests, files):
                if task.done():
                    task.result()
        except _PeerError as error:
            raise error.cause from None
        except (ExporterError, OSError) as error:
            await _end(files)
            await self._tell(error)
            raise
        finally:
            await _end(requests, files)

    async def _tell(self, error: Exception) -> None:
        """Report a failure to the receiver, best effort."""
        text = failure_of(error).message.encode("utf-8", "backslashreplace")
        with suppress(_PeerError, TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._write(Packet(type=Packet.PACKET_ERR, data=text).SerializeToString())

    async def _take_requests(self) -> None:
        """Process requests until the receiver has everything."""
        while True:
            packet = await self._read()
            match packet.type:
                case Packet.PACKET_REQ:
                    content = self._contents.pop(packet.ID, None)
                    if content is None:
                        raise InvalidArgumentError(f"invalid file id {packet.ID}")
                    self._wanted.append((packet.ID, content))
                case Packet.PACKET_FIN:
                    self._receiver_has_all = True
                case Packet.PACKET_ERR:
                    raise await self._receivers_failure(packet.data.decode("utf-8", "backslashreplace"))
                case _:
                    raise InvalidArgumentError(
                        f"a receiver of files does not send packets of type {packet.type}"
                    )
            self._changed.set()
            if self._receiver_has_all:
                return

    async def _send(self) -> None:
        await self._send_stats()
        async with aclosing(iterate_in_thread(self._data_packets())) as batches:
            while not self._receiver_has_all or self._wanted:
                if not self._wanted:
                    self._changed.clear()
                    await self._changed.wait()
                    continue
                packets, size = await anext(batches)
                await self._write(*packets)
                self._on_sent(size)
        await self._write(Packet(type=Packet.PACKET_FIN).SerializeToString())

    async def _send_stats(self) -> None:
        number = 0
        while batch := await run_in_thread(self._next_entries):
            packets = [Packet(type=Packet.PACKET_STAT, stat=stat_of(e)).SerializeToString() for e in batch]
            for entry in batch:
                if entry.kind is Kind.FILE:
                    self._contents[number] = entry.content
                number += 1
            await self._write(*packets)
            self._on_sent(sum(map(len, packets)))
        await self._write(Packet(type=Packet.PACKET_STAT).SerializeToString())

    def _next_entries(self) -> list[FileEntry]:
        return list(islice(self._entries, _BATCH_ENTRIES))

    def _data_packets(self) -> Generator[tuple[Sequence[bytes], int], None, None]:
        """Yield the requested contents as packets, with the number of bytes that count as sent. Blocks.

        It is only advanced while a request is pending or in progress.
        """
        batch: list[bytes] = []
        size, timer = 0, StepTimer()
        while True:
            number, content = self._wanted[0]
            for piece in content.pieces():
                for start in range(0, len(piece), _DATA_BYTES):
                    data = piece[start : start + _DATA_BYTES]
                    batch.append(Packet(type=Packet.PACKET_DATA, ID=number, data=data).SerializeToString())
                    size += len(batch[-1])
                if size >= _BATCH_BYTES or timer.is_over():
                    yield batch, size
                    batch, size = [], 0
            batch.append(Packet(type=Packet.PACKET_DATA, ID=number).SerializeToString())
            self._wanted.popleft()
            if not self._wanted or len(batch) >= _BATCH_ENTRIES:
                yield batch, size
                batch, size, timer = [], 0, StepTimer()

    async def _read(self) -> wire_pb2.Packet:
        try:
            message = await self._stream.read()
        except Exception as error:
            raise _PeerError(error) from error
        if not isinstance(message, bytes):
            raise _PeerError(
                UnavailableError("the receiver of the files went away before it had all of them")
            )
        try:
            return Packet.FromString(message)
        except DecodeError as error:
            raise InvalidArgumentError(
                f"the receiver's message is not a packet of fsutil: {error}"
            ) from error

    async def _write(self, *messages: bytes) -> None:
        try:
            await self._stream.write(*messages)
        except Exception as error:
            raise _PeerError(error) from error

    async def _receivers_failure(self, text: str) -> _PeerError:
        """The receiver's failure, with the code of the call's status if that arrives in time."""
        error: Exception = FailedPreconditionError(f"error from receiver: {text}")
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                try:
                    await self._stream.read()
                except ExporterError as status:
                    error = type(status)(f"error from receiver: {text}")
        return _PeerError(error)


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
