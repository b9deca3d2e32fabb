"""Accepting connections.

The log explains failed TLS handshakes.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from exporter.rpc.tls import handshake_failure

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 20.0
"""The timeout for a client's TLS handshake."""

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
    loop = asyncio.get_running_loop()
    if context is None:
        servers = [await _plain(loop, protocol, listener) for listener in listeners]
        try:
            yield
        finally:
            for server in servers:
                server.close()  # from Python 3.12 on, the context manager would wait for all connections
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
        # From Python 3.13 on, it would remove the socket's file at its end, which may not be ours.
        keep: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        return await loop.create_unix_server(protocol, sock=listener, **keep)
    return await loop.create_server(protocol, sock=listener)


class _Handshakes:
    """Accepts TLS connections, and logs failed handshakes, which asyncio's servers hide."""

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
                            logger.error("cannot accept connections: %s", error.strerror)
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
