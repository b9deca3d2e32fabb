"""gRPC's messages in the DATA of a stream, and the credit for them."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence

from exporter.rpc.http2.stream import Stream

MAX_MESSAGE_BYTES = 16 << 20
"""Largest message that is taken, as in BuildKit's own sessions. A message is held in memory whole."""

HIGH_WATER = 1 << 20
"""Bytes that wait to be read, or to be sent, at which the other side, or the writer, has to wait."""

_PREFIX = struct.Struct(">BL")
_SMALL = 16 << 10
"""Up to here, copying a message behind its prefix is cheaper than a frame of its own for that."""


class MessageError(Exception):
    """What has come is not a message that is taken.

    Args:
        text: Why.
        is_too_large: Whether its size is the reason.
    """

    def __init__(self, text: str, *, is_too_large: bool = False) -> None:
        super().__init__(text)
        self.is_too_large = is_too_large


def message_pieces(message: bytes) -> Sequence[bytes]:
    """A message as DATA."""
    prefix = _PREFIX.pack(0, len(message))
    return (prefix + message,) if len(message) <= _SMALL else (prefix, message)


class MessageReader:
    """The messages that come in on a stream.

    The other side gets credit for what has been read. A message that is not complete does not count: it could
    be larger than the window.

    Args:
        stream: The stream.
        max_message_bytes: Largest message that is taken.
    """

    def __init__(self, stream: Stream, max_message_bytes: int) -> None:
        self._stream = stream
        self._max_message_bytes = max_message_bytes
        self._partial = bytearray()
        self._messages: deque[bytes] = deque()
        self._queued = 0
        self._credit = 0
        self._is_broken = False
        self._is_released = False

    def __bool__(self) -> bool:
        """Whether there is a complete message."""
        return bool(self._messages)

    @property
    def is_within_message(self) -> bool:
        """Whether a part of a message has come and the rest has not."""
        return bool(self._partial)

    def feed(self, pieces: Sequence[bytes | memoryview], credit: int) -> None:
        """Take DATA.

        Args:
            pieces: What has come.
            credit: For it.

        Raises:
            MessageError: it is not a message that is taken.
        """
        self._credit += credit
        try:
            if not self._is_broken:  # else nothing can be read from here on
                self._partial += b"".join(pieces)
                self._cut()
        finally:
            self._give_credit()

    def pop(self) -> bytes:
        """Return the next message, which must be there."""
        message = self._messages.popleft()
        self._queued -= _PREFIX.size + len(message)
        self._give_credit()
        return message

    def release(self) -> None:
        """Hold no credit back any more: it is the connection's, too, which other streams share."""
        self._is_released = True
        self._give_credit()

    def discard(self, credit: int = 0) -> None:
        """Drop what nobody will read.

        Args:
            credit: For DATA that is not to be taken at all.
        """
        self._credit += credit
        self._messages.clear()
        self._partial.clear()
        self.release()

    def _cut(self) -> None:
        position, end = 0, len(self._partial)
        with memoryview(self._partial) as view:
            while end - position >= _PREFIX.size:
                is_compressed, length = _PREFIX.unpack_from(view, position)
                if is_compressed or length > self._max_message_bytes:
                    self._is_broken = True
                    text = f"a message of {length} bytes, or one that is compressed, is not taken"
                    raise MessageError(text, is_too_large=not is_compressed)
                stop = position + _PREFIX.size + length
                if stop > end:
                    break
                self._messages.append(bytes(view[position + _PREFIX.size : stop]))
                self._queued += stop - position
                position = stop
        del self._partial[:position]

    def _give_credit(self) -> None:
        if self._credit and (self._is_released or self._queued <= HIGH_WATER):
            credit, self._credit = self._credit, 0
            self._stream.give_credit(credit)
