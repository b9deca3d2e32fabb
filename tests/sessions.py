"""A server that accepts sessions, and clients attached to it, in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

import grpc.aio

from exporter.pb.moby.buildkit.v1 import control_pb2_grpc
from exporter.rpc.server import open_server
from exporter.rpc.session.attach import Attachable, attach
from exporter.rpc.session.end import SessionEnd
from exporter.rpc.session.manager import (
    SESSION_ID,
    SESSION_METHOD,
    HealthCheck,
    Session,
    SessionManager,
    SessionService,
)
from exporter.rpc.session.services import SessionServices

PATIENCE = 30.0
"""Seconds until a test that waits for something gives up."""


@asynccontextmanager
async def serving(*attachables: Attachable) -> AsyncIterator[grpc.aio.Channel]:
    """A server with some services, and a channel to it."""
    async with open_server() as server:
        for attachable in attachables:
            attachable(server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel


@asynccontextmanager
async def session_server(
    *, limit: int = 1000, health: HealthCheck | None = None, options: Iterable[tuple[str, int]] = ()
) -> AsyncIterator[tuple[SessionManager, grpc.aio.Channel]]:
    """A server that accepts sessions, and a channel to it."""
    sessions = SessionManager(limit=limit, health=health)
    async with open_server(options) as server:
        SessionService(sessions).register(server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=tuple(options)) as channel:
                yield sessions, channel
        finally:
            await sessions.close()


@asynccontextmanager
async def attached(*attachables: Attachable, health: HealthCheck | None = None) -> AsyncIterator[Session]:
    """A client with some services, seen from the server."""
    async with AsyncExitStack() as stack:
        sessions, channel = await stack.enter_async_context(session_server(health=health))
        attachment = await stack.enter_async_context(attach(channel, attachables))
        yield await sessions.wait(attachment.id, PATIENCE)


@asynccontextmanager
async def raw_session(
    channel: grpc.aio.Channel, attachables: Iterable[Attachable], methods: Iterable[str]
) -> AsyncIterator[str]:
    """A client that announces the given methods while the block runs."""
    async with SessionEnd.open(SessionServices.of(attachables)) as end:
        metadata = [(SESSION_ID, "raw"), *((SESSION_METHOD, method) for method in methods)]
        call = control_pb2_grpc.ControlStub(channel).Session(metadata=metadata)
        pump = asyncio.create_task(end.run(call, b""))
        try:
            yield "raw"
        finally:
            pump.cancel()
            await asyncio.wait((pump,))
            call.cancel()


async def until_closed(session: Session) -> None:
    """Wait until the client has disconnected."""
    async with asyncio.timeout(PATIENCE):
        await session.wait_closed()


async def until(condition: Callable[[], bool]) -> None:
    """Poll for a condition that has no notification."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
