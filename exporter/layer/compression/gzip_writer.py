"""Writing gzip with several threads. The output does not depend on their number.

As in pigz, a stream is split into blocks of a fixed size. Each is compressed independently, with the 32 KiB
before it as dictionary, and ends on a byte boundary. So a layer gets the same digest on every machine.
`zlib_ng.gzip_ng_threaded` works similarly, but has no members and guarantees no block size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Protocol

from zlib_ng import zlib_ng

from exporter.layer.compression.deflate import (
    STORED_SIZE,
    WINDOW_SIZE,
    Ending,
    deflate,
    gzip_header,
    gzip_trailer,
)
from exporter.layer.streams import Writable

BLOCK_SIZE = 8 * STORED_SIZE
"""Bytes per block; a multiple of the size of stored blocks, so that level 0 gives the same bytes as Go."""

# Compressing a smaller block is faster than passing it to another thread.
_SMALL_BLOCK = 16 << 10


@dataclass(frozen=True, slots=True)
class Pool:
    """Threads for compression, and their number."""

    executor: Executor
    size: int


class MemberWriter(Protocol):
    """Writes a stream of gzip members."""

    def write(self, data: bytes) -> None:
        """Append to the current member, or begin one."""
        ...

    def end_member(self, *, flush_first: bool = False) -> None:
        """End the current member, if there is one. The next write begins another.

        Args:
            flush_first: Write a flush marker before the end.
        """
        ...

    def when_positioned(self, callback: Callable[[int], None]) -> None:
        """Call `callback` with the number of compressed bytes before the next member. No member may be open.

        The callback runs as soon as the number is known, in the order of the calls of this method.
        """
        ...

    def settle(self) -> None:
        """Wait for all pending blocks, write them, and run the callbacks."""
        ...

    def finish(self) -> None:
        """End the current member and write everything. An empty stream gets an empty member."""
        ...


class GzipWriter:
    """A `MemberWriter` that compresses.

    Args:
        sink: Receives the compressed bytes.
        level: Go's level, -2 to 9.
        pool: The threads to use.
    """

    def __init__(self, sink: Writable, level: int, pool: Pool) -> None:
        self._sink = sink
        self._level = level
        self._pool = pool
        # Blocks to be written in order, and callbacks for the positions between them.
        self._pending: deque[Future[bytes] | Callable[[int], None]] = deque()
        self._in_flight = 0
        self._position = 0
        self._reset()

    def _reset(self) -> None:
        self._is_open = False
        self._block = bytearray()
        self._dictionary = b""
        self._checksum = 0
        self._length = 0

    def write(self, data: bytes) -> None:
        """See `MemberWriter.write`."""
        self._open_member()
        self._checksum = zlib_ng.crc32(data, self._checksum)
        self._length += len(data)
        rest = memoryview(data)
        while rest:
            room = BLOCK_SIZE - len(self._block)
            self._block += rest[:room]
            rest = rest[room:]
            if len(self._block) == BLOCK_SIZE:
                self._end_block(Ending.OPEN)

    def end_member(self, *, flush_first: bool = False) -> None:
        """See `MemberWriter.end_member`."""
        if self._is_open:
            self._end_block(Ending.FLUSHED_FINAL if flush_first else Ending.FINAL)
            self._enqueue(gzip_trailer(self._checksum, self._length))
            self._reset()

    def when_positioned(self, callback: Callable[[int], None]) -> None:
        """See `MemberWriter.when_positioned`."""
        assert not self._is_open, "a position within a member"
        self._pending.append(callback)
        self._write_done(keep=self._pool.size)

    def settle(self) -> None:
        """See `MemberWriter.settle`."""
        self._write_done(keep=0)

    def finish(self) -> None:
        """See `MemberWriter.finish`."""
        if not self._position and not self._pending:
            self._open_member()
        self.end_member()
        self.settle()

    def _open_member(self) -> None:
        if not self._is_open:
            self._is_open = True
            self._enqueue(gzip_header(self._level))

    def _end_block(self, ending: Ending) -> None:
        block = bytes(self._block)
        if len(block) < _SMALL_BLOCK:
            self._enqueue(deflate(self._dictionary, block, self._level, ending))
        else:
            self._in_flight += 1
            self._pending.append(
                self._pool.executor.submit(deflate, self._dictionary, block, self._level, ending)
            )
        self._dictionary = block[-WINDOW_SIZE:]
        self._block.clear()
        self._write_done(keep=self._pool.size)

    def _enqueue(self, data: bytes) -> None:
        done: Future[bytes] = Future()
        done.set_result(data)
        self._in_flight += 1
        self._pending.append(done)

    def _write_done(self, *, keep: int) -> None:
        """Write blocks that are done, and wait while more than `keep` are in flight."""
        while self._pending:
            item = self._pending[0]
            if not isinstance(item, Future):
                item(self._position)
            elif item.done() or self._in_flight > keep:
                data = item.result()
                self._in_flight -= 1
                self._sink.write(data)
                self._position += len(data)
            else:
                return
            self._pending.popleft()
