"""An HTTP/2 connection inside a session's stream (upstream: ``session/grpchijack``)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc.aio

from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.rpc.channel import FrameChannel
from exporter.rpc.http2.calling import Caller
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.sending import Schedule
from exporter.rpc.http2.sockets import Scheduler
from exporter.rpc.http2.water import HighWater
from exporter.rpc.session.tunnel import CHUNK_SIZE, MessageStream, both_ways


class Carrier:
    """An HTTP/2 connection whose bytes travel in a stream.

    Args:
        schedule: See `Connection`.
        is_client: Whether we make the calls; otherwise the peer does.

    Attributes:
        connection: The connection.
    """

    def __init__(self, schedule: Schedule, *, is_client: bool) -> None:
        self._waiting: list[bytes | memoryview] = []
        self._size = 0
        self._is_closed = False
        self._news = asyncio.Event()
        self.connection = Connection(self, schedule, is_client=is_client)
        self._water = HighWater(self.connection.pause, self.connection.resume)

    async def run(self, stream: MessageStream, first: bytes = b"") -> None:
        """Carry the connection until either side ends it.

        Args:
            stream: The stream to the peer.
            first: Data that was already read from it.

        Raises:
            Exception: the stream has failed.
        """
        await both_ways(self._receive(stream, first), self._send(stream), self.connection.close)

    def write(self, pieces: list[bytes | memoryview]) -> None:
        """See `Transport.write`."""
        self._waiting += pieces
        self._size += sum(map(len, pieces))
        self._news.set()
        self._water.note(self._size)

    def close(self) -> None:
        """See `Transport.close`."""
        self._is_closed = True
        self._news.set()

    async def _receive(self, stream: MessageStream, first: bytes) -> None:
        self.connection.receive(first)
        while isinstance(message := await stream.read(), control_pb2.BytesMessage):
            self.connection.receive(message.data)

    async def _send(self, stream: MessageStream) -> None:
        with suppress(EOFError):
            while self._waiting or not self._is_closed:
                self._news.clear()
                if not self._waiting:
                    await self._news.wait()
                    continue
                data = memoryview(b"".join(self._waiting))
                self._waiting.clear()
                for start in range(0, len(data), CHUNK_SIZE):
                    piece = bytes(data[start : start + CHUNK_SIZE])
                    await stream.write(control_pb2.BytesMessage(data=piece))
                    self._size -= len(piece)
                    self._water.note(self._size)


@asynccontextmanager
async def calling(stream: MessageStream) -> AsyncIterator[tuple[grpc.aio.Channel, asyncio.Task[None]]]:
    """Open a channel to the peer's services over a stream.

    Args:
        stream: Carries the connection. It stays open.

    Yields:
        A channel, and the task that carries its bytes. The task ends with the connection, and raises the
        error if the stream has failed. After that, calls fail with ``UNAVAILABLE``.
    """
    carrier = Carrier(Scheduler(), is_client=True)
    channel = FrameChannel(Caller(carrier.connection))
    carrying = asyncio.create_task(carrier.run(stream), name="session")
    try:
        yield channel, carrying
    finally:
        # Close the connection before the channel, so that calls in flight fail with UNAVAILABLE. Closing the
        # channel cancels its calls, which would look like a cancellation of the export.
        carrier.connection.close()
        carrying.cancel()
        await asyncio.wait((carrying,))
        await channel.close()
