"""Our end of a session, frame by frame: some calls are answered here, all others by a gRPC server of ours.

A build's context comes out of it, and what the build gives goes in, both in many messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from exporter.rpc.answering import Answering
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.grpc import path_of
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.relay import relay
from exporter.rpc.http2.sockets import Scheduler, dialling
from exporter.rpc.http2.stream import Stream
from exporter.rpc.session.carrier import Carrier
from exporter.rpc.session.handling import Handler
from exporter.rpc.session.tunnel import MessageStream


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
        self._carrier = Carrier(scheduler, is_client=False)
        self._carrier.connection.on_stream = self._route

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
                    session._carrier.connection.close()
        finally:
            protocol.connection.close()

    async def run(self, stream: MessageStream, first: bytes) -> None:
        """Carry the session until either side ends it; see `Carrier.run`."""
        await self._carrier.run(stream, first)

    def _route(self, stream: Stream, headers: Headers, end: bool) -> None:
        handler = self._handlers.get(path_of(headers))
        if handler is None:
            relay(stream, headers, self._own, end=end)
            return
        self._answering.answer(stream, headers, partial(handler, None), end=end)
