"""Our end of a session, frame by frame: some calls are answered here, all others by a gRPC server of ours.

A build's context comes out of it, and what the build gives goes in, both in many messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial

from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.rpc.answering import Answering
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.grpc import path_of
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.relay import relay
from exporter.rpc.http2.sockets import Scheduler, dialling
from exporter.rpc.http2.stream import Stream
from exporter.rpc.session.handling import Handler
from exporter.rpc.session.tunnel import CHUNK_SIZE, MessageStream, both_ways

_HIGH_WATER = 1 << 20
_LOW_WATER = 256 << 10
"""Bytes waiting to go out at which the connection is paused and resumed."""


class SessionEnd:
    """Our end of a session. Made by `open`.

    Args:
        handlers: Answer calls, by ``/package.Service/Method``.
        own: The connection to the server that answers all others.
        scheduler: Flushes connections.
        answering: Runs the handlers.
    """

    def __init__(
        self, handlers: Mapping[str, Handler], own: Connection, scheduler: Scheduler, answering: Answering
    ) -> None:
        self._handlers = handlers
        self._own = own
        self._answering = answering
        self._waiting: list[bytes | memoryview] = []
        self._size = 0
        self._is_paused = False
        self._is_closed = False
        self._news = asyncio.Event()
        self._connection = Connection(self, scheduler, is_client=False)
        self._connection.on_stream = self._route

    @classmethod
    @asynccontextmanager
    async def open(cls, handlers: Mapping[str, Handler], server_path: str) -> AsyncIterator[SessionEnd]:
        """Connect to the server; at the end, calls are cancelled, and their handlers have ended.

        Args:
            handlers: Answer calls, by ``/package.Service/Method``.
            server_path: The socket of the server that answers all others.
        """
        scheduler = Scheduler()
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_unix_connection(dialling(scheduler), server_path)
        assert protocol.connection is not None
        try:
            async with Answering.open() as answering:
                session = cls(handlers, protocol.connection, scheduler, answering)
                try:
                    yield session
                finally:
                    session._connection.close()
        finally:
            protocol.connection.close()

    async def run(self, stream: MessageStream, first: bytes) -> None:
        """Carry the session until either side ends it.

        Args:
            stream: Leads to the other side.
            first: What has been read from it already.

        Raises:
            Exception: the stream has failed.
        """
        await both_ways(self._receive(stream, first), self._send(stream), self._connection.close)

    def write(self, pieces: list[bytes | memoryview]) -> None:
        """See `Transport.write`."""
        self._waiting += pieces
        self._size += sum(map(len, pieces))
        self._news.set()
        if self._size > _HIGH_WATER and not self._is_paused:
            self._is_paused = True
            self._connection.pause()

    def close(self) -> None:
        """See `Transport.close`."""
        self._is_closed = True
        self._news.set()

    async def _receive(self, stream: MessageStream, first: bytes) -> None:
        self._connection.receive(first)
        while isinstance(message := await stream.read(), control_pb2.BytesMessage):
            self._connection.receive(message.data)

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
                    self._note_sent(len(piece))

    def _note_sent(self, size: int) -> None:
        self._size -= size
        if self._is_paused and self._size <= _LOW_WATER:
            self._is_paused = False
            self._connection.resume()

    def _route(self, stream: Stream, headers: Headers, end: bool) -> None:
        handler = self._handlers.get(path_of(headers))
        if handler is None:
            relay(stream, headers, self._own, end=end)
            return
        self._answering.answer(stream, headers, partial(handler, None), end=end)
