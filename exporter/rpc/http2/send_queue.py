"""Data of a stream that waits for the windows, with the credit that its source is owed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_CHUNK_BYTES = 64 << 10
"""Small pieces of queued data are merged into chunks of about this size in bytes."""


@dataclass(slots=True)
class Part:
    """A part of the queued data.

    Attributes:
        data: The bytes.
        credit: The credit to return to the source for them.
        on_sent: Returns credit to the source.
    """

    data: bytes | memoryview
    credit: int
    on_sent: Callable[[int], None] | None

    def acknowledge(self) -> None:
        """Return the credit to the source: the data has been sent or dropped."""
        if self.on_sent is not None and self.credit:
            self.on_sent(self.credit)


class _Chunk:
    """Queued data. It is a copy, because a slice would keep the whole receive buffer alive."""

    __slots__ = ("credit", "data", "on_sent", "sent")

    def __init__(self, data: bytes | bytearray, credit: int, on_sent: Callable[[int], None] | None) -> None:
        self.data = data
        self.credit = credit
        self.on_sent = on_sent
        self.sent = 0


class SendQueue:
    """A queue of data, which is true while it has some.

    Attributes:
        size: The number of queued bytes.
    """

    __slots__ = ("_chunks", "size")

    def __init__(self) -> None:
        self._chunks: deque[_Chunk] = deque()
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def add(
        self,
        pieces: Sequence[bytes | memoryview],
        length: int,
        credit: int,
        on_sent: Callable[[int], None] | None,
    ) -> None:
        """Append data.

        Args:
            pieces: The data, at least one byte.
            length: Its size in bytes.
            credit: The credit to return to its source when it has been sent.
            on_sent: Returns credit to the source.
        """
        self.size += length
        last = self._chunks[-1] if self._chunks and length < _CHUNK_BYTES else None
        if last is not None and isinstance(last.data, bytearray) and last.on_sent == on_sent:
            last.data += b"".join(pieces)
            last.credit += credit
            if len(last.data) >= _CHUNK_BYTES:
                last.data = bytes(last.data)
            return
        data = pieces[0] if len(pieces) == 1 and isinstance(pieces[0], bytes) else b"".join(pieces)
        kept = data if length >= _CHUNK_BYTES else bytearray(data)
        self._chunks.append(_Chunk(kept, credit, on_sent))

    def take(self, limit: int) -> Part:
        """Remove the next data, at most `limit` bytes. The queue must not be empty."""
        chunk = self._chunks[0]
        left = len(chunk.data) - chunk.sent
        if left > limit:
            return self._take_part(chunk, limit, left)
        self._chunks.popleft()
        self.size -= left
        data = memoryview(chunk.data)
        return Part(data[chunk.sent :] if chunk.sent else data, chunk.credit, chunk.on_sent)

    def _take_part(self, chunk: _Chunk, amount: int, left: int) -> Part:
        """Remove the beginning of a chunk. It is freed when it is more than half of the chunk."""
        piece = bytes(memoryview(chunk.data)[chunk.sent : chunk.sent + amount])
        chunk.sent += amount
        self.size -= amount
        if 2 * (left - amount) < len(chunk.data):
            chunk.data = chunk.data[chunk.sent :]
            chunk.sent = 0
        credit = max(chunk.credit - (left - amount), 0)
        chunk.credit -= credit
        return Part(piece, credit, chunk.on_sent)

    def clear(self) -> list[Part]:
        """Drop all data. The caller acknowledges the parts, when it can be re-entered."""
        dropped = [Part(b"", chunk.credit, chunk.on_sent) for chunk in self._chunks]
        self._chunks.clear()
        self.size = 0
        return dropped
