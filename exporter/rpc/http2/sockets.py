"""HTTP/2 connections over sockets: the only I/O of this package."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

from exporter.rpc.http2.budget import Budget, Share
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.guests import Guests
from exporter.rpc.http2.headers import CLIENT_HEADER_BYTES
from exporter.rpc.http2.water import HIGH_WATER, LOW_WATER

CLOSE_SECONDS = 10.0
"""How long in seconds a peer may take to read the data buffered when its connection is closed."""

logger = logging.getLogger(__name__)


class Scheduler:
    """Runs callbacks at the end of a turn of the event loop, including those that callbacks schedule."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pending: deque[Callable[[], None]] = deque()
        self._is_awaited = False

    def __call__(self, function: Callable[[], None]) -> None:
        """Schedule a callback for the end of this turn."""
        self._pending.append(function)
        if not self._is_awaited:
            self._is_awaited = True
            self._loop.call_soon(self.run)

    def begin(self) -> None:
        """Announce that the caller will call `run`, which saves a `call_soon`."""
        self._is_awaited = True

    def run(self) -> None:
        """Run the callbacks. Errors are logged, because other connections' callbacks must still run."""
        while self._pending:
            function = self._pending.popleft()
            try:
                function()
            except Exception:
                logger.exception("a connection could not go on")
        self._is_awaited = False


class SocketTransport(asyncio.Protocol):
    """The transport of a connection over a socket.

    Args:
        make: Creates the connection.
        scheduler: Flushes the connection.
        guests: Limits the connections that others open; None for those that we open.
    """

    def __init__(
        self,
        make: Callable[[SocketTransport], Connection],
        scheduler: Scheduler,
        guests: Guests | None = None,
    ) -> None:
        self._make = make
        self._scheduler = scheduler
        self._guests = guests
        self._transport: asyncio.Transport | None = None
        self._is_paused = False
        self._held = bytearray()
        self.connection: Connection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        self.connection = self._make(self)
        if self._guests is not None:
            self._guests.enter(self)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._is_paused:
            # Python before 3.11.4 starts reading after `connection_made`, even if that has paused the
            # transport. A second pause would be ignored, so resume first.
            assert self._transport is not None
            self._held += data
            self._transport.resume_reading()
            self._transport.pause_reading()
            return
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        assert self.connection is not None
        self._scheduler.begin()
        try:
            self.connection.receive(data)
        finally:
            self._scheduler.run()
        if self._guests is not None and self.connection.unfinished:
            self._guests.watch(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        assert self.connection is not None
        if self._guests is not None:
            self._guests.leave(self)
        self.connection.close(exc)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        assert self.connection is not None
        self.connection.pause()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        assert self.connection is not None
        self.connection.resume()

    @property
    def unfinished(self) -> int:
        """See `Guest.unfinished`. Data that we do not read yet may finish it."""
        assert self.connection is not None
        return 2 if self._is_paused else self.connection.unfinished

    @property
    def is_idle(self) -> bool:
        """See `Guest.is_idle`."""
        assert self.connection is not None
        return self.connection.is_idle and not self._is_paused

    def abort(self) -> None:
        """See `Guest.abort`."""
        assert self._transport is not None
        self._transport.abort()

    def pause_reading(self) -> None:
        """Stop passing data to the connection until `resume_reading`. At most one read is buffered."""
        assert self._transport is not None
        self._is_paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Continue after `pause_reading`."""
        assert self._transport is not None
        self._is_paused = False
        if self._transport.is_closing():
            return
        if self._held:
            held, self._held = bytes(self._held), bytearray()
            self._receive(held)
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def write(self, pieces: list[bytes | memoryview]) -> None:
        """See `Transport.write`."""
        assert self._transport is not None
        self._transport.write(b"".join(pieces))

    def close(self) -> None:
        """See `Transport.close`. Aborts after `CLOSE_SECONDS` if the peer does not read."""
        assert self._transport is not None
        is_behind = not self._transport.is_closing() and self._transport.get_write_buffer_size() > 0
        self._transport.close()
        if is_behind:
            asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._transport.abort)


Dial = Callable[[Callable[[], SocketTransport]], Awaitable[tuple[asyncio.BaseTransport, SocketTransport]]]
"""Connects a socket for a protocol factory, like `asyncio.loop.create_unix_connection`."""


def serving(
    scheduler: Scheduler,
    accept: Callable[[Connection], None],
    *,
    guests: Guests | None = None,
    budget: Budget | None = None,
    max_header_bytes: int = CLIENT_HEADER_BYTES,
) -> Callable[[], SocketTransport]:
    """Create a protocol factory for server connections.

    Args:
        scheduler: Flushes the connections.
        accept: Called with each new connection; sets its callbacks.
        guests: Limits the connections, if given.
        budget: Counts the bytes held for all of them; None for a budget of their own.
        max_header_bytes: See `Connection`.
    """
    total = budget or Budget()

    def make(transport: SocketTransport) -> Connection:
        connection = Connection(
            transport,
            scheduler,
            is_client=False,
            share=total.share(),
            max_header_bytes=max_header_bytes,
        )
        accept(connection)
        return connection

    return lambda: SocketTransport(make, scheduler, guests)


def dialling(scheduler: Scheduler, share: Share | None = None) -> Callable[[], SocketTransport]:
    """Create a protocol factory for client connections.

    Args:
        scheduler: Flushes the connections.
        share: See `Connection`.
    """

    def make(transport: SocketTransport) -> Connection:
        return Connection(transport, scheduler, is_client=True, share=share)

    return lambda: SocketTransport(make, scheduler)
