"""Clients' connections: which of their calls go to the daemon, and which to the proxy's own server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from exporter.bridge.http2.connection import Connection
from exporter.bridge.http2.frames import ErrorCode, ProtocolError
from exporter.bridge.http2.grpc import end_with_status, path_of
from exporter.bridge.http2.relay import relay
from exporter.bridge.http2.sockets import Scheduler, SocketTransport, dialling
from exporter.bridge.http2.stream import Headers, Stream
from exporter.bridge.proxy.builds import Builds
from exporter.bridge.proxy.client import Clients
from exporter.bridge.proxy.control import SOLVE_METHOD, STATUS_METHOD
from exporter.bridge.proxy.session import SessionSplice
from exporter.errors import Code

SESSION_METHOD_NAME = "/moby.buildkit.v1.Control/Session"

Dial = Callable[[Callable[[], SocketTransport]], Awaitable[tuple[asyncio.BaseTransport, SocketTransport]]]
"""Opens a socket for a protocol, as `asyncio.loop.create_unix_connection` does."""

logger = logging.getLogger(__name__)


class Switch:
    """Passes calls on.

    Each client's connection has its own to the daemon, so that the daemon sees what it would see without a
    proxy, and one ends with the other.

    Args:
        dial_daemon: Connects to the daemon.
        dial_own: Connects to the proxy's own server.
        daemon_name: For messages.
        clients: Where sessions' clients are found.
        builds: Where builds are found.
    """

    def __init__(
        self, dial_daemon: Dial, dial_own: Dial, daemon_name: str, clients: Clients, builds: Builds
    ) -> None:
        self.scheduler = Scheduler()
        self.clients = clients
        self.builds = builds
        self._dial_daemon = dial_daemon
        self._dial_own = dial_own
        self._daemon_name = daemon_name
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()

    def protocol(self) -> asyncio.Protocol:
        """A protocol for a client's socket."""
        return SocketTransport(self._make)

    def close(self) -> None:
        """End all connections."""
        for connection in list(self._connections):
            connection.close()

    def _make(self, transport: SocketTransport) -> Connection:
        connection = Connection(transport, self.scheduler, is_client=False)
        self._connections.add(connection)
        connection.on_closed = lambda error: self._connections.discard(connection)
        transport.pause_reading()
        task = asyncio.get_running_loop().create_task(self._connect(connection, transport))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return connection

    async def _connect(self, client: Connection, transport: SocketTransport) -> None:
        opened: list[Connection] = []
        try:
            for dial in (self._dial_own, self._dial_daemon):
                _, protocol = await dial(dialling(self.scheduler))
                assert protocol.connection is not None
                opened.append(protocol.connection)
        except OSError as error:
            text = f"cannot reach buildkitd at {self._daemon_name}: {error}"
            logger.warning("%s", text)
            client.on_stream = lambda stream, headers, end: end_with_status(stream, Code.UNAVAILABLE, text)
            for connection in opened:
                connection.close()
        else:
            own, daemon = opened
            ClientConnection(client, own, daemon, self)
        transport.resume_reading()


class ClientConnection:
    """A client's connection and those that its calls are passed on to; they live and end together."""

    def __init__(self, client: Connection, own: Connection, daemon: Connection, switch: Switch) -> None:
        self._own = own
        self._daemon = daemon
        self._switch = switch
        self._connections = (client, own, daemon)
        forget = client.on_closed
        for connection in self._connections:
            connection.on_closed = self._on_closed
        client.on_stream = self._route
        self._forget = forget
        if any(connection.is_closed for connection in self._connections):
            self._on_closed(None)

    def _on_closed(self, error: Exception | None) -> None:
        for connection in self._connections:
            connection.close()
        if self._forget is not None:
            forget, self._forget = self._forget, None
            forget(error)

    def _route(self, stream: Stream, headers: Headers, end: bool) -> None:
        method = path_of(headers)
        if method in {SOLVE_METHOD, STATUS_METHOD}:
            relay(stream, headers, self._own, end=end)
        elif method == SESSION_METHOD_NAME:
            try:
                SessionSplice(
                    stream,
                    headers,
                    daemon=self._daemon,
                    own=self._own,
                    scheduler=self._switch.scheduler,
                    clients=self._switch.clients,
                    builds=self._switch.builds,
                )
            except ProtocolError:
                stream.reset(ErrorCode.REFUSED_STREAM)
        else:
            relay(stream, headers, self._daemon, end=end)
