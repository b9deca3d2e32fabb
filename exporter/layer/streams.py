"""Pull-based byte streams for worker threads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Protocol

PIECE_SIZE = 1 << 20
"""Bytes per read, large enough that the overhead of a call does not matter."""

_SMALL = 1 << 16


class Readable(Protocol):
    """Something that bytes can be read from, in order."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, blocking until there are some; empty only at the end."""
        ...


class Writable(Protocol):
    """Something that bytes can be written to."""

    def write(self, data: bytes, /) -> object:
        """Append `data`, blocking while there is no space."""
        ...


class Pieces:
    """Collects written data until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Append `data`."""
        self._pieces.append(data)

    def take(self) -> bytes:
        """Everything since the last call."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


class IteratorReader:
    """Reads what an iterator yields, joining small pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        """See `Readable.read`."""
        if not self._rest:
            self._rest = memoryview(self._gather())
        data, self._rest = self._rest[:size], self._rest[size:]
        return bytes(data)

    def _gather(self) -> bytes:
        gathered: list[bytes] = []
        total = 0
        while total < _SMALL and (piece := next(self._pieces, None)) is not None:
            gathered.append(piece)
            total += len(piece)
        return gathered[0] if len(gathered) == 1 else b"".join(gathered)


class PeekingReader:
    """Reads another stream, and allows a look at its first bytes in advance.

    Attributes:
        head: The first `size` bytes; fewer only if the stream is shorter.
    """

    def __init__(self, source: Readable, size: int) -> None:
        self._source = source
        self.head = b""
        while len(self.head) < size and (data := source.read(size - len(self.head))):
            self.head += data
        self._rest = self.head

    def read(self, size: int) -> bytes:
        """See `Readable.read`."""
        if not self._rest:
            return self._source.read(size)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class LimitedReader:
    """Reads the first `limit` bytes of another stream, and leaves the rest unread."""

    def __init__(self, source: Readable, limit: int) -> None:
        self._source = source
        self._left = limit

    def read(self, size: int) -> bytes:
        """See `Readable.read`."""
        data = self._source.read(min(size, self._left)) if self._left else b""
        self._left -= len(data)
        return data


class HashingReader:
    """Reads another stream and hashes it.

    Attributes:
        size: Bytes read so far.
    """

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, size: int) -> bytes:
        """See `Readable.read`."""
        data = self._source.read(size)
        self._hash.update(data)
        self.size += len(data)
        return data

    @property
    def digest(self) -> str:
        """The digest of the bytes read so far."""
        return f"sha256:{self._hash.hexdigest()}"


class GatheringWriter:
    """Buffers small writes and passes them on in large pieces. Call `flush` at the end."""

    def __init__(self, sink: Writable) -> None:
        self._sink = sink
        self._pieces = Pieces()
        self._size = 0

    def write(self, data: bytes) -> None:
        """See `Writable.write`."""
        self._pieces.write(data)
        self._size += len(data)
        if self._size >= PIECE_SIZE:
            self.flush()

    def flush(self) -> None:
        """Pass on buffered data."""
        if self._size:
            self._sink.write(self._pieces.take())
            self._size = 0


def drain(source: Readable) -> None:
    """Read a stream to its end."""
    while source.read(PIECE_SIZE):
        pass
