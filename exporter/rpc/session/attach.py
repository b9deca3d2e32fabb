"""Attaching to a daemon, or to an exporter's server, with services (upstream: ``session.Session``)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2_grpc

from exporter.errors import UnavailableError
from exporter.pb.moby.buildkit.v1 import control_pb2, control_pb2_grpc
from exporter.rpc.calls import StreamCall
from exporter.rpc.session.end import SessionEnd
from exporter.rpc.session.manager import SESSION_ID, SESSION_METHOD, SESSION_NAME, SESSION_SHARED_KEY
from exporter.rpc.session.services import Attachable, SessionServices
from exporter.rpc.session.tunnel import MessageStream
from exporter.rpc.status import rpc_errors

__all__ = ["ATTACH_SECONDS", "Attachable", "Attachment", "SessionDialer", "attach"]

ATTACH_SECONDS = 30.0
"""How long the peer may take to accept a session."""

SessionDialer = Callable[[Sequence[tuple[str, str]]], AbstractAsyncContextManager[MessageStream]]
"""Opens a session's stream with the given metadata (upstream: ``session.Dialer``)."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A session that we have attached.

    Attributes:
        id: Its ID, for requests.
        methods: The methods that we announced.
        ended: Completes when the peer has ended the session; raises the reason if the peer sent one.
    """

    id: str
    methods: tuple[str, ...]
    ended: asyncio.Task[None]


@asynccontextmanager
async def attach(
    peer: grpc.aio.Channel | SessionDialer,
    attachables: Iterable[Attachable],
    *,
    session_id: str = "",
    shared_key: str = "",
    name: str = "",
    metadata: Sequence[tuple[str, str]] = (),
) -> AsyncIterator[Attachment]:
    """Serve services to the peer until the block ends.

    Health checks are answered as well, because daemons expect that.

    Args:
        peer: A channel that reaches ``moby.buildkit.v1.Control``, or a dialer for the session's stream.
        attachables: The services.
        session_id: The session's ID; if empty, a new one.
        shared_key: See `exporter.rpc.session.manager.Session`.
        name: Likewise.
        metadata: Additional metadata for the stream.

    Raises:
        ExporterError: the peer refuses the session, or is unreachable.
    """
    session_id = session_id or uuid.uuid4().hex
    dial = _control_dialer(peer) if isinstance(peer, grpc.aio.Channel) else peer
    async with AsyncExitStack() as stack:
        services = SessionServices.of((_health, *attachables))
        announcement = [
            (SESSION_ID, session_id),
            (SESSION_NAME, name),
            (SESSION_SHARED_KEY, shared_key),
            *((SESSION_METHOD, method) for method in services.methods),
            *metadata,
        ]
        session = await stack.enter_async_context(SessionEnd.open(services))
        stream = await stack.enter_async_context(dial(announcement))
        # The peer is the client of the inner connection, so it sends first. Its first bytes mean that it has
        # accepted the session.
        first = await _first_bytes(stream, session_id)
        ended = asyncio.create_task(_carry(session, stream, first), name=f"session {session_id}")
        try:
            yield Attachment(session_id, services.methods, ended)
        finally:
            ended.cancel()
            await asyncio.wait((ended,))
            if not ended.cancelled():
                ended.exception()  # mark it as retrieved; callers that need it await `ended`


def _control_dialer(channel: grpc.aio.Channel) -> SessionDialer:
    @asynccontextmanager
    async def dial(metadata: Sequence[tuple[str, str]]) -> AsyncIterator[MessageStream]:
        call = StreamCall(control_pb2_grpc.ControlStub(channel).Session(metadata=metadata))
        try:
            yield _SessionCall(call)
        finally:
            call.cancel()

    return dial


class _SessionCall:
    """A ``Control/Session`` call as a `MessageStream`."""

    def __init__(self, call: StreamCall) -> None:
        self._call = call

    async def read(self) -> object:
        """See `MessageStream.read`."""
        return await self._call.read()

    async def write(self, message: control_pb2.BytesMessage, /) -> None:
        """See `MessageStream.write`."""
        if not await self._call.send(message):
            raise await self._call.ended_with() or EOFError


async def _first_bytes(stream: MessageStream, session_id: str) -> bytes:
    try:
        with rpc_errors("cannot attach"):
            async with asyncio.timeout(ATTACH_SECONDS):
                message = await stream.read()
    except TimeoutError as error:
        text = f"session {session_id}: not taken up within {ATTACH_SECONDS:g} s"
        raise UnavailableError(text) from error
    if not isinstance(message, control_pb2.BytesMessage):
        raise UnavailableError(f"session {session_id}: the peer ended it before it began")
    return message.data


async def _carry(session: SessionEnd, stream: MessageStream, first: bytes) -> None:
    with rpc_errors("the session has ended"):
        await session.run(stream, first)


def _health(server: grpc.aio.Server) -> None:
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
