"""gRPC's messages in the DATA of a stream, and the credit for them."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence

from exporter.rpc.http2.stream import Stream

MAX_MESSAGE_BYTES = 16 << 20
"""Largest message that is taken, as in BuildKit's own sessions. A message is held in memory whole."""

_PREFIX = struct.Struct(">BL")
PREFIX_BYTES = _PREFIX.size

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


class HeldError(MessageError):
    """There is no memory for a message, since too much is held for the connection."""

    def __init__(self) -> None:
        super().__init__("more is sent on the connection than there is memory for", is_too_large=True)


def message_prefix(length: int) -> bytes:
    """What is before a message."""
    return _PREFIX.pack(0, length)


def message_pieces(message: bytes) -> Sequence[bytes]:
    """A message as DATA."""
    prefix = message_prefix(len(message))
    return (prefix + message,) if len(message) <= _SMALL else (prefix, message)


def parse_prefix(data: bytes | bytearray | memoryview, position: int, max_message_bytes: int) -> int:
    """Read what is before a message: its length.

    Raises:
        MessageError: it is not taken.
    """
    is_compressed, length = _PREFIX.unpack_from(data, position)
    if is_compressed:
        raise MessageError("a message that is compressed is not taken")
    if length > max_message_bytes:
        text = f"a message of {length} bytes is not taken; the limit is {max_message_bytes}"
        raise MessageError(text, is_too_large=True)
    return int(length)


class MessageReader:
    """The messages that come in on a stream.

    The other side gets credit for what has been read. A message that is not complete could be larger than the
    window, so the rest of it needs credit before; what is held so is counted (`Stream.hold`).

    Args:
        stream: The stream.
        max_message_bytes: Largest message that is taken.
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
        """Whether there is a complete message."""
        return bool(self._messages)

    @property
    def is_within_message(self) -> bool:
        """Whether a part of a message has come and the rest has not."""
        return bool(self._partial)

    @property
    def first(self) -> bytes | None:
        """The next message, which stays; None if it is not complete."""
        return self._messages[0] if self._messages else None

    @property
    def held(self) -> int:
        """Bytes for which the other side has got credit although they are here."""
        return self._held

    def feed(self, pieces: Sequence[bytes | memoryview], credit: int) -> None:
        """Take DATA.

        Args:
            pieces: What has come.
            credit: For it.

        Raises:
            MessageError: it is not a message that is taken; `HeldError` if there is no memory for it.
        """
        self._credit += credit
        if self._is_broken:  # nothing can be read from here on
            self._give_credit(credit)
            return
        self._partial += b"".join(pieces)
        self._cut()
        self._settle()

    def pop(self) -> bytes:
        """Return the next message, which must be there.

        Raises:
            HeldError: there is no memory for the one after it.
        """
        message = self._messages.popleft()
        self._give_credit(PREFIX_BYTES + len(message))
        if not self._messages and not self._is_released:
            self._settle()
        return message

    def take(self) -> tuple[list[bytes], int]:
        """Return all that has come as it came, and the credit for it; `discard` gives the rest."""
        found = [piece for message in self._messages for piece in message_pieces(message)]
        if self._partial:
            found.append(bytes(self._partial))
        self._messages.clear()
        self._partial.clear()
        credit, self._credit = self._credit, 0
        return found, credit

    def release(self) -> None:
        """Hold no credit back any more: it is the connection's, too, which other streams share.

        What is there can still be read, but is not counted.
        """
        self._is_released = True
        self._give_credit(self._credit + self._held)

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
        """Give the credit that the other side needs to go on, unless there are messages to be read first."""
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
        """Give credit for what is not kept any more, as far as that has not been done before."""
        credit = min(amount, self._credit)
        if credit:
            self._credit -= credit
            self._stream.give_credit(credit)
        held = min(amount - credit, self._held, self._stream.held)
        if held > 0:
            self._held -= held
            self._stream.release(held)
