"""Accepting calls: connections and their streams, answered by services, frame by frame.

gRPC for Python would decode `:path` in the loop that accepts all calls, and a path that is not UTF-8 ends
that loop. Here, nothing that a client sends affects other clients. See ADR 11.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc

from exporter.errors import Code
from exporter.rpc.answering import Answering
from exporter.rpc.http2.budget import Budget
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.grpc import end_with_status
from exporter.rpc.http2.guests import Guests, guest_limit
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.served import ServedCall
from exporter.rpc.http2.sockets import Scheduler, serving
from exporter.rpc.http2.stream import Stream
from exporter.rpc.session.services import SessionServices


class CallServer:
    """Answers the calls of all connections. Created by `open`.

    Args:
        services: The services to call.
        answering: Runs the handlers.
        max_message_bytes: Maximum size of a request.
    """

    def __init__(self, services: SessionServices, answering: Answering, max_message_bytes: int) -> None:
        self._services = services
        self._answering = answering
        self._max_message_bytes = max_message_bytes
        self._connections: set[Connection] = set()
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_stopping = False
        self._make = serving(Scheduler(), self._accept, guests=Guests(guest_limit(1)), budget=Budget())

    @classmethod
    @asynccontextmanager
    async def open(cls, services: SessionServices, *, max_message_bytes: int) -> AsyncIterator[CallServer]:
        """Create one. At the end, cancel the calls in flight, and wait for their handlers.

        Args:
            services: The services to call.
            max_message_bytes: Maximum size of a request.
        """
        async with Answering.open() as answering:
            server = cls(services, answering, max_message_bytes)
            try:
                yield server
            finally:
                server.close()

    def protocol(self) -> asyncio.Protocol:
        """Create the protocol for an accepted connection."""
        return self._make()

    async def stop(self, grace: float) -> None:
        """Refuse new calls, and give those in flight `grace` seconds to end."""
        self._is_stopping = True
        for connection in self._connections:
            connection.go_away()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._idle.wait()
        self.close()

    def close(self) -> None:
        """Close all connections, which ends their calls."""
        for connection in list(self._connections):
            connection.close()

    def _accept(self, connection: Connection) -> None:
        self._connections.add(connection)
        connection.on_closed = lambda error: self._connections.discard(connection)
        connection.on_stream = self._route

    def _route(self, stream: Stream, headers: Headers, end: bool) -> None:
        if self._is_stopping:
            end_with_status(stream, Code.UNAVAILABLE, "the server is shutting down")
            return
        answer = self._services.find(headers, _refuse) or _refuse

        async def counted(call: ServedCall) -> None:
            self._running += 1
            self._idle.clear()
            try:
                await answer(call)
            finally:
                self._running -= 1
                if not self._running:
                    self._idle.set()

        self._answering.answer(stream, headers, counted, end=end, max_message_bytes=self._max_message_bytes)


async def _refuse(call: ServedCall) -> None:
    await call.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")  # gRPC's own words
