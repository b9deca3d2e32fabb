"""Clients attached through BuildKit's session protocol (upstream: ``session.Manager``)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from exporter.errors import (
    Code,
    ExporterError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.rpc.session.carrier import calling
from exporter.rpc.session.tunnel import MessageStream
from exporter.rpc.status import abort

SESSION_ID = "x-docker-expose-session-uuid"
SESSION_NAME = "x-docker-expose-session-name"
SESSION_SHARED_KEY = "x-docker-expose-session-sharedkey"
SESSION_METHOD = "x-docker-expose-session-grpc-method"
"""Metadata of a session's stream. The last key is repeated: once for each method that the client serves."""

HEALTH_METHOD = "/grpc.health.v1.Health/Check"

Metadata = Iterable[tuple[str, str | bytes]]

_LOG = logging.getLogger(__name__)


class SessionExistsError(ExporterError):
    """A session with this ID is already attached."""

    code = Code.ALREADY_EXISTS


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Health checks of sessions that serve them. The defaults are BuildKit's.

    Without them, exports would wait forever for a peer that hangs, or whose machine has disappeared.

    Attributes:
        interval: Seconds between checks.
        timeout: The deadline of a check in seconds.
        failures: Consecutive failures that end the session.
    """

    interval: float = 5.0
    timeout: float = 15.0
    failures: int = 2


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Session:
    """An attached client.

    Attributes:
        id: The ID that requests use.
        name: The client's name for itself; usually empty.
        shared_key: BuildKit's key for sharing local files between sessions. The manager only stores it.
        channel: A channel to the client's services. Calls fail with ``UNAVAILABLE`` once the client is gone.
        methods: The methods that the client announced, in lower case.
    """

    id: str
    name: str
    shared_key: str
    channel: grpc.aio.Channel
    methods: frozenset[str]
    _ended: asyncio.Event = field(default_factory=asyncio.Event, init=False, repr=False)

    def supports(self, method: str) -> bool:
        """Whether the client announced ``/package.Service/Method``; case-insensitive, as in BuildKit."""
        return method.lower() in self.methods

    @property
    def is_closed(self) -> bool:
        """Whether the client is gone."""
        return self._ended.is_set()

    async def wait_closed(self) -> None:
        """Wait until the client is gone."""
        await self._ended.wait()


class SessionManager:
    """Holds the attached sessions, by ID.

    Args:
        limit: The maximum number of attached sessions. Each uses a connection and its buffers.
        health: The health checks.
    """

    def __init__(self, *, limit: int = 1000, health: HealthCheck | None = None) -> None:
        self._limit = limit
        self._health = health or HealthCheck()
        self._entries: dict[str, _Entry] = {}
        self._arrivals: dict[str, list[asyncio.Future[Session]]] = {}
        self._closing = asyncio.Event()
        self._serving = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, session_id: str) -> Session | None:
        """Return a session if it is attached."""
        entry = self._entries.get(_plain_id(session_id))
        return entry.session if entry is not None else None

    async def wait(self, session_id: str, timeout: float | None = None) -> Session:
        """Wait until a session is attached. It may attach after the request that names it.

        Args:
            session_id: Its ID. As in BuildKit, a prefix that ends with a colon is ignored.
            timeout: Seconds; None for no limit.

        Raises:
            UnavailableError: the session did not attach in time.
        """
        key = _plain_id(session_id)
        if (session := self.get(key)) is not None:
            return session
        arrival: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
        self._arrivals.setdefault(key, []).append(arrival)
        try:
            async with asyncio.timeout(timeout):
                return await arrival
        except TimeoutError as error:
            text = f"no active session {key}: it has not attached itself within {timeout:g} s"
            raise UnavailableError(text) from error
        finally:
            arrivals = self._arrivals[key]
            arrivals.remove(arrival)
            if not arrivals:
                del self._arrivals[key]

    async def serve(self, metadata: Metadata, stream: MessageStream) -> None:
        """Serve a client's stream. Returns when the client is gone, or on `close`.

        Args:
            metadata: The metadata of the stream's request.
            stream: The stream. The caller ends it afterwards.

        Raises:
            InvalidArgumentError: the metadata has no ID.
            SessionExistsError: a session with this ID is already attached.
            ResourceExhaustedError: the limit is reached.
            UnavailableError: the manager is closed.
        """
        entry = _Entry.announced(metadata)
        self._admit(entry)
        self._serving += 1
        self._idle.clear()
        try:
            async with calling(stream) as (channel, carrying):
                session = entry.attach(channel)
                try:
                    self._announce(session)
                    await self._until_gone(session, carrying)
                finally:
                    # Forget it at once: the client may reattach before all calls have failed.
                    self._forget(entry)
                    session._ended.set()
        finally:
            self._forget(entry)
            self._serving -= 1
            if not self._serving:
                self._idle.set()

    async def close(self) -> None:
        """End all sessions and refuse new ones. Returns once every `serve` has cleaned up."""
        self._closing.set()
        await self._idle.wait()

    def _admit(self, entry: _Entry) -> None:
        if self._closing.is_set():
            raise UnavailableError("the server is shutting down")
        if entry.id in self._entries:
            raise SessionExistsError(f"session {entry.id} already exists")
        if len(self._entries) >= self._limit:
            raise ResourceExhaustedError(f"{self._limit} sessions are attached, which is all that are taken")
        self._entries[entry.id] = entry

    def _announce(self, session: Session) -> None:
        for arrival in self._arrivals.get(session.id, []):
            if not arrival.done():
                arrival.set_result(session)

    def _forget(self, entry: _Entry) -> None:
        if self._entries.get(entry.id) is entry:
            del self._entries[entry.id]

    async def _until_gone(self, session: Session, carrying: asyncio.Task[None]) -> None:
        closing = asyncio.create_task(self._closing.wait(), name=f"session {session.id}: closing")
        watch = asyncio.create_task(self._watch(session), name=f"session {session.id}: health")
        try:
            await asyncio.wait((carrying, closing, watch), return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
            watch.cancel()
            await asyncio.wait((closing, watch))
        if carrying.done() and not carrying.cancelled() and (error := carrying.exception()) is not None:
            _LOG.debug("session %s ended: %r", session.id, error)

    async def _watch(self, session: Session) -> None:
        """Return when the client no longer answers."""
        if not session.supports(HEALTH_METHOD):
            await session.wait_closed()
            return
        stub: Any = health_pb2_grpc.HealthStub(session.channel)
        failures = 0
        while failures < self._health.failures:
            await asyncio.sleep(self._health.interval)
            try:
                await stub.Check(health_pb2.HealthCheckRequest(), timeout=self._health.timeout)
                failures = 0
            except grpc.aio.AioRpcError as error:
                failures += 1
                _LOG.warning("session %s: health check failed: %s", session.id, error.details())


class SessionService:
    """``Control/Session``, the only method of ``moby.buildkit.v1.Control`` that an exporter server has."""

    def __init__(self, sessions: SessionManager) -> None:
        self._sessions = sessions

    def register(self, server: grpc.aio.Server) -> None:
        """Add ``Control/Session`` to a server. All other methods remain unimplemented."""
        handler = grpc.stream_stream_rpc_method_handler(
            self._session,
            request_deserializer=control_pb2.BytesMessage.FromString,
            response_serializer=control_pb2.BytesMessage.SerializeToString,
        )
        service = control_pb2.DESCRIPTOR.services_by_name["Control"].full_name
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"Session": handler}),)
        )

    async def _session(self, _: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        try:
            # The first write would send the metadata too. But if the session ends during that write, the
            # write is cancelled, gRPC sends the metadata a second time, and the call never ends.
            await context.send_initial_metadata(())
            await self._sessions.serve(tuple(context.invocation_metadata() or ()), context)
        except ExporterError as error:
            await abort(context, error)


@dataclass(slots=True, eq=False)
class _Entry:
    """A reserved session ID. `session` is None until the session has connected."""

    id: str
    name: str
    shared_key: str
    methods: frozenset[str]
    session: Session | None = None

    @classmethod
    def announced(cls, metadata: Metadata) -> _Entry:
        values: dict[str, list[str]] = {}
        for key, value in metadata:
            if isinstance(value, str):
                values.setdefault(key.lower(), []).append(value)

        def first(key: str) -> str:
            return values.get(key, [""])[0]

        if not first(SESSION_ID):
            raise InvalidArgumentError(f"a session needs an ID: metadata {SESSION_ID} is missing or empty")
        methods = frozenset(method.lower() for method in values.get(SESSION_METHOD, []))
        return cls(first(SESSION_ID), first(SESSION_NAME), first(SESSION_SHARED_KEY), methods)

    def attach(self, channel: grpc.aio.Channel) -> Session:
        self.session = Session(
            id=self.id, name=self.name, shared_key=self.shared_key, channel=channel, methods=self.methods
        )
        return self.session


def _plain_id(session_id: str) -> str:
    _, _, plain = session_id.partition(":")
    return plain or session_id
