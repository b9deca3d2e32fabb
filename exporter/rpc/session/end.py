"""Our end of a session, on HTTP/2 frames.

A build's context and its output pass through a session, both in many messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import grpc.aio

from exporter.rpc.answering import Answering
from exporter.rpc.forward import forward
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.served import ServedCall
from exporter.rpc.http2.sockets import Scheduler
from exporter.rpc.http2.stream import Stream
from exporter.rpc.server import open_server
from exporter.rpc.session.carrier import Carrier
from exporter.rpc.session.services import SessionServices
from exporter.rpc.session.tunnel import TUNNEL_OPTIONS, MessageStream, started
from exporter.rpc.target import unix_target


class SessionEnd:
    """Our end of a session. Made by `open`.

    Args:
        services: The services for the peer's calls.
        scheduler: Flushes the connection.
        answering: Runs the handlers.
        resources: Closed after the handlers have ended.
    """

    def __init__(
        self,
        services: SessionServices,
        scheduler: Scheduler,
        answering: Answering,
        resources: AsyncExitStack,
    ) -> None:
        self._services = services
        self._answering = answering
        self._threaded = _ThreadedServices(services, resources)
        self._carrier = Carrier(scheduler, is_client=False)
        self._carrier.connection.on_stream = self._route

    @classmethod
    @asynccontextmanager
    async def open(cls, services: SessionServices) -> AsyncIterator[SessionEnd]:
        """Make a session end. On exit, cancel the calls in flight and wait for their handlers.

        Args:
            services: The services for the peer's calls.
        """
        async with AsyncExitStack() as resources, Answering.open() as answering:
            session = cls(services, Scheduler(), answering, resources)
            try:
                yield session
            finally:
                session._carrier.connection.close()

    async def run(self, stream: MessageStream, first: bytes) -> None:
        """Carry the session until either side ends it; see `Carrier.run`."""
        await self._carrier.run(stream, first)

    def _route(self, stream: Stream, headers: Headers, end: bool) -> None:
        answer = self._services.find(headers, self._threaded.answer) or _refuse
        self._answering.answer(stream, headers, answer, end=end)


async def _refuse(call: ServedCall) -> None:
    await call.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")  # the text that gRPC uses


class _ThreadedServices:
    """Synchronous handlers. A gRPC server runs them in threads; it starts with the first call.

    Args:
        services: All services.
        resources: Stops the server.
    """

    def __init__(self, services: SessionServices, resources: AsyncExitStack) -> None:
        self._services = services
        self._resources = resources
        self._channel: grpc.aio.Channel | None = None
        self._starting = asyncio.Lock()

    async def answer(self, call: ServedCall) -> None:
        """Answer a call with a synchronous handler."""
        async with self._starting:
            if self._channel is None:
                self._channel = await self._start()
        await forward(self._channel, call.method, call)

    async def _start(self) -> grpc.aio.Channel:
        server = await self._resources.enter_async_context(open_server(TUNNEL_OPTIONS))
        server.add_generic_rpc_handlers(self._services.generic)
        path = await self._resources.enter_async_context(started(server))
        channel = grpc.aio.insecure_channel(unix_target(path), TUNNEL_OPTIONS)
        return await self._resources.enter_async_context(channel)
