"""One stream of a connection: what goes out, as far as the peer gives credit for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from exporter.rpc.http2.budget import Share
from exporter.rpc.http2.frames import ErrorCode, ProtocolError, rst_stream, window_update
from exporter.rpc.http2.headers import Headers, memory_of

STREAM_WINDOW = 1 << 20
"""Bytes that a peer may send ahead on one stream, and so the most that waits here for a slow receiver."""

_CHUNK_BYTES = 64 << 10
"""Data that waits is put together up to here."""


class StreamHandler(Protocol):
    """What is done with what comes in on a stream. Nothing here may block."""

    def on_headers(self, headers: Headers, *, end: bool) -> None:
        """Headers, or trailers, have come."""
        ...

    def on_data(self, pieces: Sequence[bytes | memoryview], credit: int, *, end: bool) -> None:
        """Data has come, in one or more pieces.

        `credit` is to be given back by `Stream.give_credit` when it is done with.
        """
        ...

    def on_reset(self, code: int) -> None:
        """The stream has ended at once, by the peer or with the connection."""
        ...

    def on_progress(self) -> None:
        """Some of what waited to be sent has been."""
        ...


class StreamOwner(Protocol):
    """What a stream needs of its connection, for the credit and the frames of all streams together."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is sent."""
        ...

    @property
    def frame_size(self) -> int:
        """Length of the longest frame that the peer takes."""
        ...

    @property
    def share(self) -> Share:
        """Counts what is held for the connection."""
        ...

    def write(self, data: bytes | memoryview) -> None:
        """Send bytes soon."""
        ...

    def write_headers(self, stream_id: int, headers: Headers, *, end: bool) -> bool:
        """Send headers soon, unless too many wait already; returns whether they are sent."""
        ...

    def write_data(self, stream_id: int, pieces: Sequence[bytes | memoryview], *, end: bool) -> None:
        """Send DATA for which there is credit."""
        ...

    def room(self) -> int:
        """Bytes that may be sent now."""
        ...

    def can_send(self, amount: int) -> bool:
        """Whether that many bytes may be sent now."""
        ...

    def wants_to_send(self, stream: Stream) -> None:
        """Call `Stream.flush` when there is credit."""
        ...

    def has_sent(self, stream: Stream) -> None:
        """Stop calling it."""
        ...

    def give_credit(self, amount: int) -> None:
        """Let the peer send more."""
        ...

    def forget(self, stream: Stream) -> None:
        """Drop a stream that has ended."""
        ...


class _Chunk:
    """Data that waits to be sent. It is a copy: a slice would keep the whole buffer that it came in."""

    __slots__ = ("credit", "data", "on_sent", "sent")

    def __init__(self, data: bytes | bytearray, credit: int, on_sent: Callable[[int], None] | None) -> None:
        self.data = data
        self.credit = credit
        self.on_sent = on_sent
        self.sent = 0


class Stream:
    """A stream.

    Args:
        connection: Its connection.
        stream_id: Its ID; 0 if it cannot be opened yet, since the peer has no place for more streams.
        window: Bytes that may be sent on it.

    Attributes:
        has_headers: Whether headers have come, so that further ones are trailers.
        held: What is counted in the connection's share because of the stream.
    """

    __slots__ = (
        "_ends_after_queue",
        "_opening",
        "_owed",
        "_queue",
        "_receive_window",
        "_reset_code",
        "_trailers",
        "connection",
        "handler",
        "has_headers",
        "held",
        "id",
        "is_closed",
        "local_ended",
        "queued",
        "remote_ended",
        "window",
    )

    def __init__(self, connection: StreamOwner, stream_id: int, window: int) -> None:
        self.connection = connection
        self.id = stream_id
        self.window = window
        self.handler: StreamHandler | None = None
        self.has_headers = False
        self.held = 0
        self.local_ended = False
        self.remote_ended = False
        self.is_closed = False
        self.queued = 0
        self._queue: deque[_Chunk] = deque()
        self._opening: Headers | None = None
        self._trailers: Headers | None = None
        self._ends_after_queue = False
        self._receive_window = STREAM_WINDOW
        self._owed = 0
        self._reset_code: int | None = None

    # Opening.

    def wait_to_open(self, headers: Headers, *, end: bool) -> None:
        """Keep headers, and all that is sent after them, until `open`."""
        self._opening = headers
        self.local_ended = end

    def open(self, stream_id: int, window: int) -> None:
        """Open the stream after `wait_to_open`. It fails if too many headers wait to be sent already."""
        headers, self._opening = self._opening, None
        assert headers is not None
        self.release(self.held)
        is_all, self.local_ended = self.local_ended, False
        if not self.connection.write_headers(stream_id, headers, end=is_all):
            self.fail(ErrorCode.ENHANCE_YOUR_CALM)
            return
        self.id, self.window = stream_id, window
        if is_all:
            self._end_local()

    def start_sending(self) -> None:
        """Send what was written before the stream was opened."""
        if self._queue:
            self.connection.wants_to_send(self)
            self.flush()
        elif self._trailers is not None:
            self._end_queue()
        elif self._ends_after_queue and not self.local_ended:
            self._write_data((b"",), 0, end=True)

    # What goes out.

    def send_headers(self, headers: Headers, *, end: bool = False) -> None:
        """Send headers; trailers wait for the data before them."""
        if self.local_ended or self.is_closed:
            return
        if self._queue or self._opening is not None:
            if not self.hold(memory_of(headers)):
                self.fail(ErrorCode.ENHANCE_YOUR_CALM)
                return
            self._trailers, self._ends_after_queue = headers, end
            return
        self._write_headers(headers, end)

    def send_data(
        self,
        data: bytes | memoryview,
        credit: int = 0,
        on_sent: Callable[[int], None] | None = None,
        *,
        end: bool = False,
    ) -> None:
        """Send data; see `send_pieces`."""
        self.send_pieces((data,), credit, on_sent, end=end)

    def send_pieces(
        self,
        pieces: Sequence[bytes | memoryview],
        credit: int = 0,
        on_sent: Callable[[int], None] | None = None,
        *,
        end: bool = False,
    ) -> None:
        """Send data, now or when the peer gives credit for it.

        Args:
            pieces: The data. It must not change any more.
            credit: Given to `on_sent` when the data has gone; in parts, if the data goes in parts.
            on_sent: Lets the data's sender send more.
            end: Whether nothing follows.
        """
        length = sum(map(len, pieces))
        if self.local_ended or self.is_closed or not (length or end):
            if on_sent is not None and credit:
                on_sent(credit)
            return
        if (
            not self._queue
            and self._opening is None
            and (not length or (length <= self.window and self.connection.can_send(length)))
        ):
            self._write_data(pieces if length else (b"",), length, end)
            if on_sent is not None and credit:
                on_sent(credit)
            return
        self._ends_after_queue = self._ends_after_queue or end
        is_first = not self._queue
        self._enqueue(pieces, length, credit, on_sent)
        if is_first and self._opening is None:  # else it waits for credit already
            self.connection.wants_to_send(self)
            self.flush()

    def _enqueue(
        self,
        pieces: Sequence[bytes | memoryview],
        length: int,
        credit: int,
        on_sent: Callable[[int], None] | None,
    ) -> None:
        if not length:
            if on_sent is not None and credit:
                on_sent(credit)
            return
        self.queued += length
        last = self._queue[-1] if self._queue and length < _CHUNK_BYTES else None
        if last is not None and isinstance(last.data, bytearray) and last.on_sent == on_sent:
            last.data += b"".join(pieces)
            last.credit += credit
            if len(last.data) >= _CHUNK_BYTES:
                last.data = bytes(last.data)
            return
        data = pieces[0] if len(pieces) == 1 and isinstance(pieces[0], bytes) else b"".join(pieces)
        kept = data if length >= _CHUNK_BYTES else bytearray(data)
        self._queue.append(_Chunk(kept, credit, on_sent))

    def flush(self) -> None:
        """Send of what waits as much as there is credit for."""
        before = self.queued
        self._flush_queue()
        if not self._queue:
            self._end_queue()
        if self.queued < before and self.handler is not None and not self.is_closed:
            self.handler.on_progress()

    def _flush_queue(self) -> None:
        while self._queue:
            room = min(self.window, self.connection.room())
            if room <= 0:
                return
            chunk = self._queue[0]
            left = len(chunk.data) - chunk.sent
            if left > room:
                self._send_part(chunk, room, left)
                continue
            self._queue.popleft()
            self.queued -= left
            is_last = not self._queue and self._trailers is None and self._ends_after_queue
            data = memoryview(chunk.data)[chunk.sent :] if chunk.sent else chunk.data
            self._write_data((memoryview(data),), left, is_last)
            if chunk.on_sent is not None:
                chunk.on_sent(chunk.credit)

    def _send_part(self, chunk: _Chunk, amount: int, left: int) -> None:
        """Send the beginning of a chunk. What is left of it must not keep much more memory than it needs."""
        piece = bytes(memoryview(chunk.data)[chunk.sent : chunk.sent + amount])
        chunk.sent += amount
        self.queued -= amount
        if 2 * (left - amount) < len(chunk.data):
            chunk.data = chunk.data[chunk.sent :]
            chunk.sent = 0
        self._write_data((piece,), amount, end=False)
        credit = max(chunk.credit - (left - amount), 0)
        chunk.credit -= credit
        if chunk.on_sent is not None and credit:
            chunk.on_sent(credit)

    def _end_queue(self) -> None:
        self.connection.has_sent(self)
        if self._trailers is not None:
            trailers, self._trailers = self._trailers, None
            self.release(min(memory_of(trailers), self.held))
            self._write_headers(trailers, self._ends_after_queue)
        if self._reset_code is not None:
            self.abort(self._reset_code)

    # What comes in.

    def give_credit(self, amount: int) -> None:
        """Let the peer send more: what it has sent has been dealt with."""
        self.connection.give_credit(amount)
        if self.remote_ended or self.is_closed:
            return
        self._owed += amount
        if self._owed >= STREAM_WINDOW // 2:
            self.connection.write(window_update(self.id, self._owed))
            self._receive_window += self._owed
            self._owed = 0

    def note_received(self, amount: int) -> None:
        """Hold what the peer has sent against the credit that it had.

        Raises:
            ProtocolError: it was more.
        """
        self._receive_window -= amount
        if self._receive_window < 0:
            text = f"more DATA on stream {self.id} than there was credit for"
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, text)

    def hold(self, amount: int) -> bool:
        """Count bytes that are kept although the peer gets credit for them, or that need none.

        Returns:
            Whether they may be kept. They are counted until `release`, or the end of the stream.
        """
        if self.is_closed or not self.connection.share.take(amount):
            return False
        self.held += amount
        return True

    def release(self, amount: int) -> None:
        """Count bytes that are kept no more."""
        self.held -= amount
        self.connection.share.give(amount)

    # The end.

    def reset(self, code: int = ErrorCode.CANCEL) -> None:
        """End the stream at once, in both directions.

        But if its last word still waits and there was no error, that is sent first: a server says so that it
        needs nothing more of a request.
        """
        if self._queue and self._ends_after_queue and code == ErrorCode.NO_ERROR:
            self._reset_code = code
        else:
            self.abort(code)

    def abort(self, code: int = ErrorCode.CANCEL) -> None:
        """End the stream at once, and drop what waits to be sent on it."""
        if not self.is_closed:
            if self.id:
                self.connection.write(rst_stream(self.id, code))
            self.close()

    def fail(self, code: int) -> None:
        """End the stream at once; tell the peer as well as the handler."""
        if not self.is_closed:
            handler = self.handler
            self.abort(code)
            if handler is not None:
                handler.on_reset(code)

    def close(self) -> None:
        """Forget the stream, and what waits to be sent on it."""
        self.is_closed = True
        waiting, self._queue = self._queue, deque()
        self.queued = 0
        self._trailers = self._opening = None
        self.release(self.held)
        self.connection.forget(self)
        for chunk in waiting:
            if chunk.on_sent is not None:
                chunk.on_sent(chunk.credit)

    def end_remote(self) -> None:
        """The peer has ended its direction."""
        self.remote_ended = True
        self._close_if_ended()

    def _write_headers(self, headers: Headers, end: bool) -> None:
        if not self.connection.write_headers(self.id, headers, end=end):
            self.fail(ErrorCode.ENHANCE_YOUR_CALM)
        elif end:
            self._end_local()

    def _write_data(self, pieces: Sequence[bytes | memoryview], length: int, end: bool) -> None:
        self.window -= length
        self.connection.write_data(self.id, pieces, end=end)
        if end:
            self._end_local()

    def _end_local(self) -> None:
        self.local_ended = True
        self._close_if_ended()

    def _close_if_ended(self) -> None:
        if self.local_ended and self.remote_ended and not self.is_closed:
            self.close()
