"""gRPC messages in the DATA of a stream, and their flow control."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence

from exporter.rpc.http2.stream import Stream

MAX_MESSAGE_BYTES = 16 << 20
"""The default size limit for received messages in bytes, as in BuildKit. A message is buffered whole."""

_PREFIX = struct.Struct(">BL")
PREFIX_BYTES = _PREFIX.size

_SMALL = 16 << 10
"""Up to this size in bytes, copying prefix and message into one frame is cheaper than two frames."""


class MessageError(Exception):
    """A received message is malformed, compressed or too large.

    Args:
        text: The reason.
        is_too_large: Whether the reason is its size.
    """

    def __init__(self, text: str, *, is_too_large: bool = False) -> None:
        super().__init__(text)
        self.is_too_large = is_too_large


class HeldError(MessageError):
    """A message cannot be buffered, because too much is held for the connection."""

    def __init__(self) -> None:
        super().__init__("more is sent on the connection than there is memory for", is_too_large=True)


def message_prefix(length: int) -> bytes:
    """Serialize the prefix of a message: not compressed, and its length."""
    return _PREFIX.pack(0, length)


def message_pieces(message: bytes) -> Sequence[bytes]:
    """Serialize a message as pieces of DATA."""
    prefix = message_prefix(len(message))
    return (prefix + message,) if len(message) <= _SMALL else (prefix, message)


def parse_prefix(data: bytes | bytearray | memoryview, position: int, max_message_bytes: int) -> int:
    """Parse the prefix of a message and return the message's length.

    Raises:
        MessageError: the message is compressed or too large.
    """
    is_compressed, length = _PREFIX.unpack_from(data, position)
    if is_compressed:
        raise MessageError("a message that is compressed is not taken")
    if length > max_message_bytes:
        text = f"a message of {length} bytes is not taken; the limit is {max_message_bytes}"
        raise MessageError(text, is_too_large=True)
    return int(length)


class MessageReader:
    """Reads the messages that a stream receives.

    The peer gets credit when a message is read. An incomplete message may be larger than the window, so the
    peer needs credit for its beginning before it can send the rest. `Stream.hold` counts those bytes.

    Args:
        stream: The stream.
        max_message_bytes: The size limit for messages.
    """

    def __init__(self, stream: Stream, max_message_bytes: int) -> None:
        self._stream = stream
        self._max_message_bytes = max_message_bytes
        self._partial = bytearray()
        self._messages: deque[bytes] = deque()
        self._credit = 0
        self._held = 0
        self._is_broken = False
        self._is_released = False

    def __bool__(self) -> bool:
        """Whether a complete message is buffered."""
        return bool(self._messages)

    @property
    def is_within_message(self) -> bool:
        """Whether an incomplete message is buffered."""
        return bool(self._partial)

    @property
    def first(self) -> bytes | None:
        """The next message, without removing it; None if it is incomplete."""
        return self._messages[0] if self._messages else None

    @property
    def held(self) -> int:
        """The buffered bytes for which the peer has its credit back already."""
        return self._held

    def feed(self, pieces: Sequence[bytes | memoryview], credit: int) -> None:
        """Process DATA.

        Args:
            pieces: The data.
            credit: The credit to return for it.

        Raises:
            MessageError: a message is compressed or too large; `HeldError` if it cannot be buffered.
        """
        self._credit += credit
        if self._is_broken:  # the position of the next message is unknown
            self._give_credit(credit)
            return
        self._partial += b"".join(pieces)
        self._cut()
        self._settle()

    def pop(self) -> bytes:
        """Remove and return the next message. There must be one.

        Raises:
            HeldError: the message after it cannot be buffered.
        """
        message = self._messages.popleft()
        self._give_credit(PREFIX_BYTES + len(message))
        if not self._messages and not self._is_released:
            self._settle()
        return message

    def take(self) -> tuple[list[bytes], int]:
        """Remove and return all buffered DATA, and the credit owed for it. `discard` releases `held`."""
        found = [piece for message in self._messages for piece in message_pieces(message)]
        if self._partial:
            found.append(bytes(self._partial))
        self._messages.clear()
        self._partial.clear()
        credit, self._credit = self._credit, 0
        return found, credit

    def release(self) -> None:
        """Return all credit to the peer now, because other streams share the connection's part of it.

        Buffered messages can still be read, but are no longer counted.
        """
        self._is_released = True
        self._give_credit(self._credit + self._held)

    def discard(self, credit: int = 0) -> None:
        """Drop everything buffered, and return all credit.

        Args:
            credit: Additional credit, for DATA that was not fed.
        """
        self._credit += credit
        self._messages.clear()
        self._partial.clear()
        self.release()

    def _cut(self) -> None:
        position, end = 0, len(self._partial)
        with memoryview(self._partial) as view:
            while end - position >= PREFIX_BYTES:
                try:
                    length = parse_prefix(view, position, self._max_message_bytes)
                except MessageError:
                    self._is_broken = True
                    raise
                stop = position + PREFIX_BYTES + length
                if stop > end:
                    break
                self._messages.append(bytes(view[position + PREFIX_BYTES : stop]))
                position = stop
        del self._partial[:position]

    def _settle(self) -> None:
        """Give the peer the credit that it needs to continue, unless complete messages are still unread."""
        if self._is_released or self._messages:
            return
        if not self._partial:
            self._give_credit(self._credit + self._held)
        elif self._credit:
            if not self._stream.hold(self._credit):
                raise HeldError
            self._held += self._credit
            self._stream.give_credit(self._credit)
            self._credit = 0

    def _give_credit(self, amount: int) -> None:
        """Stop accounting for bytes that were buffered: return owed credit first, then release held bytes."""
        credit = min(amount, self._credit)
        if credit:
            self._credit -= credit
            self._stream.give_credit(credit)
        held = min(amount - credit, self._held, self._stream.held)
        if held > 0:
            self._held -= held
            self._stream.release(held)
