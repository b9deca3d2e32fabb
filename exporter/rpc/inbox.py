"""Messages of a stream that have been received, but not yet processed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from exporter.errors import UnavailableError

__all__ = ["ByteStream", "Inbox"]

_INBOX_BYTES = 8 << 20
"""The limit for buffered messages; beyond it, backpressure stops the sender."""


class ByteStream(Protocol):
    """A bidirectional stream of messages, as bytes."""

    async def read(self) -> object:
        """Return the next message, or something other than bytes at the end."""
        ...

    async def write(self, *messages: bytes) -> None:
        """Send messages in order, with backpressure."""
        ...


class Inbox:
    """A buffer for received messages, so that many small ones need only one trip to a thread.

    Args:
        at_end: The error if more messages are wanted after the stream has ended.
    """

    def __init__(self, at_end: str) -> None:
        self._at_end = at_end
        self._messages: list[bytes] = []
        self._size = 0
        self._ended: BaseException | None = None
        self._changed = asyncio.Condition()

    async def fill(self, stream: ByteStream) -> None:
        """Read a stream to its end, and wait while the buffer is full."""
        ended: BaseException = UnavailableError(self._at_end)
        try:
            while isinstance(message := await stream.read(), bytes):
                async with self._changed:
                    await self._changed.wait_for(lambda: self._size < _INBOX_BYTES)
                    self._messages.append(message)
                    self._size += len(message)
                    self._changed.notify_all()
        except Exception as error:
            ended = error
        async with self._changed:
            self._ended = ended
            self._changed.notify_all()

    async def take(self) -> Sequence[bytes]:
        """Wait for messages and take them all. At the end of the stream, raise the reason."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._messages or self._ended is not None)
            if not self._messages and self._ended is not None:
                raise self._ended
            messages, self._messages, self._size = self._messages, [], 0
            self._changed.notify_all()
            return messages
