"""Connections that come in at sockets of ours and are passed on to a gRPC server.

gRPC for Python opens its listeners itself: it cannot be given a socket that systemd has opened, and what goes
wrong when it binds a port, or in a TLS handshake, it writes to standard error in a form of its own. So it
listens on a private Unix socket, and bytes are passed on to there.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any, cast

from exporter.rpc.tls import handshake_failure

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 20.0
"""How long a client may take for TLS."""

_PAUSE_SECONDS = 1.0
"""How long no connections are taken when there are no descriptors left."""

_BUFFER_BYTES = 1 << 20

_SILENT = (ConnectionError, EOFError, ssl.SSLEOFError)
"""What ends the connections of those who only look whether the port is open."""


@asynccontextmanager
async def taking(
    protocol: Callable[[], asyncio.BaseProtocol],
    listeners: Sequence[socket.socket],
    context: ssl.SSLContext | None,
) -> AsyncIterator[None]:
    """Take connections at sockets, as long as the block runs. The sockets are closed at its end.

    Args:
        protocol: Makes a protocol for each connection.
        listeners: Sockets that listen.
        context: Makes the connections speak TLS.
    """
    loop = asyncio.get_running_loop()
    if context is None:
        servers = [await _plain(loop, protocol, listener) for listener in listeners]
        try:
            yield
        finally:
            for server in servers:
                server.close()  # its own way to end waits for the connections, from Python 3.12 on
        return
    tasks = [
        asyncio.create_task(_Handshakes(protocol, context).take(listener), name="TLS listener")
        for listener in listeners
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _plain(
    loop: asyncio.AbstractEventLoop, protocol: Callable[[], asyncio.BaseProtocol], listener: socket.socket
) -> asyncio.Server:
    if listener.family == socket.AF_UNIX:
        # From Python 3.13 on, it would remove the socket's file at its end, which may not be ours to remove.
        keep: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        return await loop.create_unix_server(protocol, sock=listener, **keep)
    return await loop.create_server(protocol, sock=listener)


class _Handshakes:
    """Takes connections and says why there is no TLS with one: asyncio's servers keep that to themselves."""

    def __init__(self, protocol: Callable[[], asyncio.BaseProtocol], context: ssl.SSLContext) -> None:
        self._protocol = protocol
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        with listener:
            try:
                while True:
                    try:
                        connection, peer = await loop.sock_accept(listener)
                    except OSError as error:
                        if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                            logger.error("cannot take connections: %s", error.strerror)
                            await asyncio.sleep(_PAUSE_SECONDS)
                        continue
                    task = asyncio.create_task(self._shake_hands(connection, peer), name="TLS handshake")
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
            finally:
                for task in self._tasks:
                    task.cancel()

    async def _shake_hands(self, connection: socket.socket, peer: object) -> None:
        name = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a client"
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
            )
        except _SILENT as error:
            logger.debug("no TLS with %s: %r", name, error)
        except (OSError, TimeoutError) as error:
            logger.warning("no TLS with %s: %s", name, handshake_failure(error))


class Relay:
    """Passes connections on to a Unix socket.

    Args:
        path: Of the socket.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: set[_End] = set()

    def protocol(self) -> asyncio.Protocol:
        """A protocol for a connection that has come in."""
        return _Client(self)

    def close(self) -> None:
        """End all connections."""
        for client in list(self._clients):
            client.abort()

    def joined(self, client: _Client) -> None:
        """Find the other end for a connection."""
        self._clients.add(client)
        task = asyncio.create_task(self._connect(client), name="relay: connecting")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def left(self, client: _Client) -> None:
        """Forget a connection."""
        self._clients.discard(client)

    async def _connect(self, client: _Client) -> None:
        loop = asyncio.get_running_loop()
        server = _End()
        server.other = client
        try:
            await loop.create_unix_connection(lambda: server, self._path)
        except OSError as error:
            logger.debug("the server takes no connections: %s", error)
            client.abort()
            return
        client.connect(server)


class _End(asyncio.Protocol):
    """One of the two ends of a relayed connection."""

    def __init__(self) -> None:
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        # HTTP/2 has no half-closed connections: with one end, the other goes, once all is written.
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class _Client(_End):
    """The end that has come in. What it says before the other end is there is kept."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._relay.joined(self)

    def connect(self, server: _End) -> None:
        """Set the other end."""
        assert server.transport is not None
        self.other = server
        assert self.transport is not None
        if self.transport.is_closing():
            server.transport.close()
            return
        for data in self._early:
            server.transport.write(data)
        self._early.clear()
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Pass it on, or keep it; a client says little before it has the server's settings."""
        if self.other is not None:
            super().data_received(data)
            return
        self._early.append(data)
        assert self.transport is not None
        self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._relay.left(self)


@asynccontextmanager
async def relaying(
    path: str, listeners: Sequence[socket.socket], context: ssl.SSLContext | None
) -> AsyncIterator[None]:
    """Pass connections that come in at `listeners` on to a Unix socket; at the end, close them all.

    Args:
        path: Of the socket.
        listeners: See `taking`.
        context: See `taking`.
    """
    relay = Relay(path)
    with closing(relay):
        async with taking(relay.protocol, listeners, context):
            yield
