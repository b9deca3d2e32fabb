"""One stream of a connection: what goes out, as far as the peer gives credit for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from exporter.rpc.http2.frames import (
    END_HEADERS,
    END_STREAM,
    ErrorCode,
    FrameType,
    ProtocolError,
    frame_header,
    rst_stream,
    window_update,
)
from exporter.rpc.http2.headers import Headers

STREAM_WINDOW = 1 << 20
"""Bytes that a peer may send ahead on one stream, and so the most that waits here for a slow receiver."""


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

    def write(self, data: bytes | memoryview) -> None:
        """Send bytes soon."""
        ...

    def write_data(self, stream_id: int, pieces: Sequence[bytes | memoryview], *, end: bool) -> None:
        """Send DATA for which there is credit."""
        ...

    def encode(self, headers: Headers) -> bytes:
        """Encode headers; they must be sent in the order in which they were encoded."""
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


class Stream:
    """A stream.

    Args:
        connection: Its connection.
        stream_id: Its ID.
        window: Bytes that may be sent on it.
    """

    __slots__ = (
        "_ends_after_queue",
        "_owed",
        "_queue",
        "_receive_window",
        "_reset_code",
        "_trailers",
        "connection",
        "handler",
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
        self.local_ended = False
        self.remote_ended = False
        self.is_closed = False
        self.queued = 0
        self._queue: deque[tuple[memoryview, int, Callable[[int], None] | None]] = deque()
        self._trailers: Headers | None = None
        self._ends_after_queue = False
        self._receive_window = STREAM_WINDOW
        self._owed = 0
        self._reset_code: int | None = None

    def send_headers(self, headers: Headers, *, end: bool = False) -> None:
        """Send headers; trailers wait for the data before them."""
        if self.local_ended or self.is_closed:
            return
        if self._queue:
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
        if self.local_ended or self.is_closed:
            if on_sent is not None:
                on_sent(credit)
            return
        length = sum(map(len, pieces))
        if not self._queue and self.connection.can_send(length) and length <= self.window:
            self._write_data(pieces, length, end)
            if on_sent is not None:
                on_sent(credit)
            return
        is_first = not self._queue
        rest = credit - length  # of padding
        for piece in pieces:
            self._queue.append((memoryview(piece), len(piece) + rest, on_sent))
            rest = 0
        self.queued += length
        self._ends_after_queue = self._ends_after_queue or end
        if is_first:  # else it waits for credit already
            self.connection.wants_to_send(self)
            self.flush()

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
            data, credit, on_sent = self._queue[0]
            room = min(self.window, self.connection.room())
            if room <= 0 and data:
                return
            if len(data) > room:
                self._write_data((data[:room],), room, end=False)
                self.queued -= room
                self._queue[0] = (data[room:], credit, on_sent)
                return
            self._queue.popleft()
            self.queued -= len(data)
            is_last = not self._queue and self._trailers is None and self._ends_after_queue
            self._write_data((data,), len(data), is_last)
            if on_sent is not None:
                on_sent(credit)

    def _end_queue(self) -> None:
        self.connection.has_sent(self)
        if self._trailers is not None:
            trailers, self._trailers = self._trailers, None
            self._write_headers(trailers, self._ends_after_queue)
        if self._reset_code is not None:
            self.reset(self._reset_code)

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

    def reset(self, code: int = ErrorCode.CANCEL) -> None:
        """End the stream at once, in both directions; but if its last word still waits, after that."""
        if self._queue and self._ends_after_queue:
            self._reset_code = code
        else:
            self.abort(code)

    def abort(self, code: int = ErrorCode.CANCEL) -> None:
        """End the stream at once, and drop what waits to be sent on it."""
        if not self.is_closed:
            self.connection.write(rst_stream(self.id, code))
            self.close()

    def close(self) -> None:
        """Forget the stream, and what waits to be sent on it."""
        self.is_closed = True
        waiting, self._queue = self._queue, deque()
        self.queued = 0
        self.connection.forget(self)
        for _, credit, on_sent in waiting:
            if on_sent is not None:
                on_sent(credit)

    def end_remote(self) -> None:
        """The peer has ended its direction."""
        self.remote_ended = True
        self._close_if_ended()

    def _write_headers(self, headers: Headers, end: bool) -> None:
        connection = self.connection
        block = connection.encode(headers)
        size = connection.frame_size
        first, position = True, 0
        while first or position < len(block):
            piece = block[position : position + size]
            position += len(piece)
            flags = END_HEADERS if position >= len(block) else 0
            if first and end:
                flags |= END_STREAM
            kind = FrameType.HEADERS if first else FrameType.CONTINUATION
            connection.write(frame_header(len(piece), kind, flags, self.id))
            connection.write(piece)
            first = False
        if end:
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
