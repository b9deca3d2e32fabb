"""Connections over sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from exporter.bridge.http2.connection import Connection

_BUFFER_BYTES = 1 << 20
"""What may wait in a socket's buffer before the connection is paused."""


class Scheduler:
    """Calls functions at the end of a turn of the event loop, and those that they ask for as well."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pending: list[Callable[[], None]] = []

    def __call__(self, function: Callable[[], None]) -> None:
        """Have a function called soon."""
        if not self._pending:
            self._loop.call_soon(self._run)
        self._pending.append(function)

    def _run(self) -> None:
        # The list is not emptied before the end: what is added meanwhile is called in this turn.
        for function in self._pending:
            function()
        self._pending.clear()


class SocketTransport(asyncio.Protocol):
    """A socket that carries a connection.

    Args:
        make: Makes the connection.
    """

    def __init__(self, make: Callable[[SocketTransport], Connection]) -> None:
        self._make = make
        self._transport: asyncio.Transport | None = None
        self.connection: Connection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_BUFFER_BYTES)
        self.connection = self._make(self)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        assert self.connection is not None
        self.connection.receive(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        assert self.connection is not None
        self.connection.close(exc)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        assert self.connection is not None
        self.connection.pause()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        assert self.connection is not None
        self.connection.resume()

    def pause_reading(self) -> None:
        """Take nothing more from the socket until `resume_reading`."""
        assert self._transport is not None
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on after `pause_reading`."""
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def write(self, pieces: list[bytes | memoryview]) -> None:
        """See `Transport.write`."""
        assert self._transport is not None
        self._transport.write(b"".join(pieces))

    def close(self) -> None:
        """See `Transport.close`."""
        assert self._transport is not None
        self._transport.close()


def serving(scheduler: Scheduler, accept: Callable[[Connection], None]) -> Callable[[], SocketTransport]:
    """Make a protocol factory for sockets whose peers open streams.

    Args:
        scheduler: Flushes the connections.
        accept: Is given each connection, and sets its handlers.
    """

    def make(transport: SocketTransport) -> Connection:
        connection = Connection(transport, scheduler, is_client=False)
        accept(connection)
        return connection

    return lambda: SocketTransport(make)


def dialling(scheduler: Scheduler) -> Callable[[], SocketTransport]:
    """Make a protocol factory for sockets on which streams are opened here."""
    return lambda: SocketTransport(lambda transport: Connection(transport, scheduler, is_client=True))
