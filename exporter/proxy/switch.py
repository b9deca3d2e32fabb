"""Clients' connections, and routing their calls to the daemon or to the proxy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from exporter.errors import Code, UnavailableError
from exporter.proxy.builds import Builds
from exporter.proxy.control import HISTORY_METHOD, SOLVE_METHOD, STATUS_METHOD
from exporter.proxy.daemon import Daemon
from exporter.proxy.daemon_calls import DaemonCalls
from exporter.proxy.decision import BuildRouter
from exporter.proxy.metrics import ProxyMetrics
from exporter.proxy.session import SessionSplice
from exporter.rpc.answering import Answer, Answering
from exporter.rpc.http2.budget import CLIENT_BYTES, Budget
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.frames import ErrorCode, ProtocolError
from exporter.rpc.http2.grpc import end_with_status, path_of
from exporter.rpc.http2.guests import Guests, guest_limit
from exporter.rpc.http2.headers import CLIENT_HEADER_BYTES, Headers
from exporter.rpc.http2.peek import Peek
from exporter.rpc.http2.relay import relay
from exporter.rpc.http2.sockets import Scheduler, SocketTransport
from exporter.rpc.http2.stream import Stream

SESSION_METHOD_NAME = "/moby.buildkit.v1.Control/Session"

HANGUP_SECONDS = 2.0
"""At shutdown: how long clients may take to disconnect after their builds have ended."""

_POLL_SECONDS = 0.05

_FILES_PER_CLIENT = 2
"""Its socket, and ours to the daemon."""

logger = logging.getLogger(__name__)


class Switch:
    """Routes calls.

    Each client's connection has its own connection to the daemon, so that the daemon sees the same as
    without a proxy. If one is closed, so is the other. Clients only share the memory budget for held data.

    Args:
        daemon: The daemon.
        scheduler: Flushes connections.
        router: Routes builds and their watchers.
        history: Handles requests for the build history.
        answering: Runs the proxy's handlers.
        calls: Handles daemons' calls to sessions about our exports.
        builds: The builds in progress.
        metrics: Counts connections and their bytes.
    """

    def __init__(
        self,
        daemon: Daemon,
        scheduler: Scheduler,
        *,
        router: BuildRouter,
        history: Answer,
        answering: Answering,
        calls: DaemonCalls,
        builds: Builds,
        metrics: ProxyMetrics,
    ) -> None:
        self.scheduler = scheduler
        self._history = history
        self._answering = answering
        self._calls = calls
        self.builds = builds
        self._router = router
        self._daemon = daemon
        self._metrics = metrics
        self._budget = Budget()
        self._guests = Guests(guest_limit(_FILES_PER_CLIENT))
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self._solves: set[Stream] = set()

    @property
    def connections(self) -> int:
        """The number of connected clients."""
        return len(self._connections)

    @property
    def solves(self) -> int:
        """The number of builds in progress."""
        self._solves = {stream for stream in self._solves if not stream.is_closed}
        return len(self._solves)

    def protocol(self) -> asyncio.Protocol:
        """Create a protocol for a client's socket."""
        return _ClientSocket(self._make, self._connect_soon, self.scheduler, self._guests, self._metrics)

    async def drain(self) -> None:
        """Reject new builds, and wait for builds in progress and for their clients to disconnect."""
        self.builds.is_closed = True
        if not self.solves:
            return
        await _until(lambda: not self.solves)
        # A build's watcher may still be reading, and then requests the build's record.
        with suppress(TimeoutError):
            async with asyncio.timeout(HANGUP_SECONDS):
                await _until(lambda: not self._connections)

    def close(self) -> None:
        """Close all connections."""
        for connection in list(self._connections):
            connection.close()

    def _make(self, transport: SocketTransport) -> Connection:
        share = self._budget.share(CLIENT_BYTES)
        client = Connection(
            transport,
            self.scheduler,
            is_client=False,
            share=share,
            max_header_bytes=CLIENT_HEADER_BYTES,
        )
        self._connections.add(client)
        self._metrics.connected()
        client.on_closed = lambda error: self._connections.discard(client)
        return client

    def _connect_soon(self, client: Connection, transport: SocketTransport) -> None:
        """Connect to the daemon for a client that has said something. Its calls wait in the socket."""
        transport.pause_reading()
        task = asyncio.get_running_loop().create_task(self._connect(client, transport))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, client: Connection, transport: SocketTransport) -> None:
        try:
            daemon = await self._daemon.connect(self.scheduler, self._budget.share())
        except UnavailableError as error:
            text = error.message
            logger.warning("%s", text)
            self._metrics.unreachable()
            client.on_stream = lambda stream, headers, end: end_with_status(stream, Code.UNAVAILABLE, text)
        else:
            self._join(client, daemon)
        transport.resume_reading()

    def _join(self, client: Connection, daemon: Connection) -> None:
        """Tie two connections together, so that closing one closes the other."""

        def on_closed(error: Exception | None) -> None:
            self._connections.discard(client)
            client.close()
            daemon.close()

        client.on_closed = daemon.on_closed = on_closed
        daemon.on_goaway = client.go_away
        if client.is_closed or daemon.is_closed:
            on_closed(None)
        client.on_stream = lambda stream, headers, end: self._route(daemon, stream, headers, end)

    def _route(self, daemon: Connection, stream: Stream, headers: Headers, end: bool) -> None:
        path = path_of(headers)
        if path == SOLVE_METHOD:
            self._solves.add(stream)
            Peek(stream, headers, end, lambda call, data: self._router.solve(call, data, daemon))
        elif path == STATUS_METHOD:
            Peek(stream, headers, end, lambda call, data: self._router.status(call, data, daemon))
        elif path == HISTORY_METHOD:
            self._answering.answer(stream, headers, self._history, end=end)
        elif path == SESSION_METHOD_NAME:
            self._splice(daemon, stream, headers)
        else:
            relay(stream, headers, daemon, end=end)

    def _splice(self, daemon: Connection, stream: Stream, headers: Headers) -> None:
        try:
            SessionSplice(
                stream,
                headers,
                daemon=daemon,
                answering=self._answering,
                calls=self._calls,
                scheduler=self.scheduler,
                builds=self.builds,
            )
        except ProtocolError:
            stream.reset(ErrorCode.REFUSED_STREAM)


class _ClientSocket(SocketTransport):
    """A client's socket, whose bytes are counted."""

    def __init__(
        self,
        make: Callable[[SocketTransport], Connection],
        on_first_data: Callable[[Connection, SocketTransport], None],
        scheduler: Scheduler,
        guests: Guests,
        metrics: ProxyMetrics,
    ) -> None:
        super().__init__(make, scheduler, guests)
        self._on_first_data: Callable[[Connection, SocketTransport], None] | None = on_first_data
        self._metrics = metrics

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._metrics.received(len(data))
        if self._on_first_data is not None:
            assert self.connection is not None
            on_first_data, self._on_first_data = self._on_first_data, None
            on_first_data(self.connection, self)
        super().data_received(data)

    def write(self, pieces: list[bytes | memoryview]) -> None:
        """See `Transport.write`."""
        self._metrics.sent(sum(map(len, pieces)))
        super().write(pieces)


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - streams do not notify about their ends here
        await asyncio.sleep(_POLL_SECONDS)
