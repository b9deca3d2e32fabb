"""Accepting connections.

The log explains failed TLS handshakes.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from exporter.rpc.tls import handshake_failure

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 20.0
"""The timeout for a client's TLS handshake."""

MAX_HANDSHAKES = 128
"""The maximum number of handshakes in progress. Beyond that, the oldest one is given up."""

_BACKLOG = 128
"""The maximum number of connections that wait to be accepted."""

_PAUSE_SECONDS = 1.0
"""The pause in accepting connections when file descriptors have run out."""

_SILENT = (ConnectionError, EOFError, ssl.SSLEOFError)
"""Errors from port scans and probes, which only open and close a connection."""


@asynccontextmanager
async def taking(
    protocol: Callable[[], asyncio.BaseProtocol],
    listeners: Sequence[socket.socket],
    context: ssl.SSLContext | None,
) -> AsyncIterator[None]:
    """Accept connections while the block runs. The sockets are closed at its end.

    Args:
        protocol: Creates the protocol of a connection.
        listeners: Listening sockets.
        context: The TLS context, if any.
    """
    for listener in listeners:
        listener.listen(_BACKLOG)
    door = _Plain(protocol) if context is None else _Handshakes(protocol, context)
    tasks = [asyncio.create_task(_take(listener, door), name="listener") for listener in listeners]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        door.close()


async def _take(listener: socket.socket, door: _Plain | _Handshakes) -> None:
    """Accept connections one by one. asyncio's servers accept a hundred at once before any can be refused."""
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    with listener:
        while True:
            try:
                connection, peer = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    logger.error("cannot accept connections: %s", error.strerror)
                    await asyncio.sleep(_PAUSE_SECONDS)
                continue
            await door.take(connection, peer)


class _Plain:
    """Connections without TLS."""

    def __init__(self, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        self._protocol = protocol

    async def take(self, connection: socket.socket, peer: object) -> None:
        """Pass on a connection."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        except OSError as error:
            logger.debug("a connection cannot be accepted: %r", error)
            connection.close()

    def close(self) -> None:
        """Do nothing: there is nothing in progress."""


class _Handshakes:
    """Accepts TLS connections, and logs failed handshakes, which asyncio's servers hide."""

    def __init__(self, protocol: Callable[[], asyncio.BaseProtocol], context: ssl.SSLContext) -> None:
        self._protocol = protocol
        self._context = context
        self._tasks: dict[asyncio.Task[None], None] = {}  # ordered

    async def take(self, connection: socket.socket, peer: object) -> None:
        """Begin a handshake."""
        if len(self._tasks) >= MAX_HANDSHAKES:
            oldest = next(iter(self._tasks))
            del self._tasks[oldest]
            oldest.cancel()
        task = asyncio.create_task(self._shake_hands(connection, peer), name="TLS handshake")
        self._tasks[task] = None
        task.add_done_callback(self._forget)

    def close(self) -> None:
        """Give up the handshakes in progress."""
        for task in self._tasks:
            task.cancel()

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)

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
