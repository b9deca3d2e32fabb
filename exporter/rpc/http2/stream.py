"""A stream: its state and its flow control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from exporter.rpc.http2.budget import Share
from exporter.rpc.http2.frames import ErrorCode, ProtocolError, rst_stream, window_update
from exporter.rpc.http2.headers import Headers, memory_of
from exporter.rpc.http2.send_queue import SendQueue

STREAM_WINDOW = 1 << 20
"""The receive window of a stream in bytes. It bounds the data buffered for a slow receiver."""


class StreamHandler(Protocol):
    """Handles what a stream receives. The methods must not block."""

    def on_headers(self, headers: Headers, *, end: bool) -> None:
        """Headers or trailers have arrived. `end` is END_STREAM."""
        ...

    def on_data(self, pieces: Sequence[bytes | memoryview], credit: int, *, end: bool) -> None:
        """DATA has arrived, in one or more pieces. `end` is END_STREAM.

        The handler must return `credit` with `Stream.give_credit` when it has processed the data.
        """
        ...

    def on_reset(self, code: int) -> None:
        """The stream has been reset: by the peer, after an error, or because the connection was closed."""
        ...

    def on_progress(self) -> None:
        """Some of the queued data has been sent."""
        ...


class StreamOwner(Protocol):
    """The part of a connection that its streams use."""

    @property
    def is_closed(self) -> bool:
        """Whether the connection is closed."""
        ...

    @property
    def frame_size(self) -> int:
        """The maximum length of a frame's payload in bytes."""
        ...

    @property
    def share(self) -> Share:
        """Counts the bytes held for the connection."""
        ...

    def write(self, data: bytes | memoryview) -> None:
        """Send a frame with the next flush."""
        ...

    def write_headers(self, stream_id: int, headers: Headers, *, end: bool) -> bool:
        """Send headers with the next flush. Returns False, and sends nothing, if too many are unsent."""
        ...

    def write_data(self, stream_id: int, pieces: Sequence[bytes | memoryview], *, end: bool) -> None:
        """Send DATA, which must fit into the windows, with the next flush."""
        ...

    def room(self) -> int:
        """The number of bytes of DATA that may be sent now."""
        ...

    def can_send(self, amount: int) -> bool:
        """Whether `amount` bytes of DATA may be sent now."""
        ...

    def wants_to_send(self, stream: Stream) -> None:
        """Call `Stream.flush` when the connection can send."""
        ...

    def has_sent(self, stream: Stream) -> None:
        """Stop calling `Stream.flush`."""
        ...

    def give_credit(self, amount: int) -> None:
        """Return credit for the connection's window to the peer."""
        ...

    def forget(self, stream: Stream) -> None:
        """Remove a stream that has ended."""
        ...


class Stream:
    """A stream.

    Args:
        connection: Its connection.
        stream_id: Its ID; 0 while it waits for the peer's stream limit (`wait_to_open`).
        window: Its send window in bytes.

    Attributes:
        has_headers: On a client, whether the final response headers have arrived; trailers follow.
        held: The bytes counted in the connection's share for this stream.
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
        self._queue = SendQueue()
        self._opening: Headers | None = None
        self._trailers: Headers | None = None
        self._ends_after_queue = False
        self._receive_window = STREAM_WINDOW
        self._owed = 0
        self._reset_code: int | None = None

    @property
    def queued(self) -> int:
        """The number of queued bytes."""
        return self._queue.size

    # Opening.

    def wait_to_open(self, headers: Headers, *, end: bool) -> None:
        """Queue the headers, and everything sent after them, until `open`."""
        self._opening = headers
        self.local_ended = end

    def open(self, stream_id: int, window: int) -> None:
        """Open the stream after `wait_to_open`. Resets it if the connection has too many unsent headers."""
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
        """Send what was queued before `open`."""
        if self._queue:
            self.connection.wants_to_send(self)
            self.flush()
        elif self._trailers is not None:
            self._end_queue()
        elif self._ends_after_queue and not self.local_ended:
            self._write_data((b"",), 0, end=True)

    # Sending.

    def send_headers(self, headers: Headers, *, end: bool = False) -> None:
        """Send headers, or queue trailers behind unsent data."""
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
        """Send data, or queue it until the windows allow it.

        Args:
            pieces: The data. The buffers must not be modified afterwards.
            credit: Passed to `on_sent` when the data has been sent; in parts if it is sent in parts.
            on_sent: Returns credit to the source of the data.
            end: Whether to half-close the stream after the data.
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
        if length:
            self._queue.add(pieces, length, credit, on_sent)
        elif on_sent is not None and credit:
            on_sent(credit)
        if is_first and self._opening is None:  # otherwise the stream is waiting already
            self.connection.wants_to_send(self)
            self.flush()

    def flush(self) -> None:
        """Send as much of the queue as the windows allow."""
        before = self.queued
        self._flush_queue()
        if not self._queue:
            self._end_queue()
        if self.queued < before and self.handler is not None and not self.is_closed:
            self.handler.on_progress()

    def _flush_queue(self) -> None:
        queue = self._queue
        while queue:
            room = min(self.window, self.connection.room())
            if room <= 0:
                return
            sent = queue.take(room)
            is_last = self._ends_after_queue and not queue and self._trailers is None
            self._write_data((sent.data,), len(sent.data), is_last)
            sent.acknowledge()

    def _end_queue(self) -> None:
        self.connection.has_sent(self)
        if self._trailers is not None:
            trailers, self._trailers = self._trailers, None
            self.release(min(memory_of(trailers), self.held))
            self._write_headers(trailers, self._ends_after_queue)
        if self._reset_code is not None:
            self.abort(self._reset_code)

    # Receiving.

    def give_credit(self, amount: int) -> None:
        """Return credit to the peer for processed data, on stream and connection, in batches."""
        self.connection.give_credit(amount)
        if self.remote_ended or self.is_closed:
            return
        self._owed += amount
        if self._owed >= STREAM_WINDOW // 2:
            self.connection.write(window_update(self.id, self._owed))
            self._receive_window += self._owed
            self._owed = 0

    def note_received(self, amount: int) -> None:
        """Subtract received DATA from the receive window.

        Raises:
            ProtocolError: the peer has exceeded the window (RFC 9113, 6.9.1).
        """
        self._receive_window -= amount
        if self._receive_window < 0:
            text = f"more DATA on stream {self.id} than there was credit for"
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, text)

    def hold(self, amount: int) -> bool:
        """Count buffered bytes that no window bounds: headers, and data whose credit is returned early.

        Returns:
            Whether they may be held. If so, they are counted until `release` or the end of the stream.
        """
        if self.is_closed or not self.connection.share.take(amount):
            return False
        self.held += amount
        return True

    def release(self, amount: int) -> None:
        """Stop counting bytes that are no longer held."""
        self.held -= amount
        self.connection.share.give(amount)

    # Ending.

    def reset(self, code: int = ErrorCode.CANCEL) -> None:
        """Reset the stream.

        With NO_ERROR, the queue is sent first if it ends the stream: a server that does not need the rest of
        a request sends its whole response before the reset (RFC 9113, 8.1).
        """
        if self._queue and self._ends_after_queue and code == ErrorCode.NO_ERROR:
            self._reset_code = code
        else:
            self.abort(code)

    def abort(self, code: int = ErrorCode.CANCEL) -> None:
        """Reset the stream and drop its queue."""
        if not self.is_closed:
            if self.id:
                self.connection.write(rst_stream(self.id, code))
            self.close()

    def fail(self, code: int) -> None:
        """Reset the stream, and call the handler's `on_reset`."""
        if not self.is_closed:
            handler = self.handler
            self.abort(code)
            if handler is not None:
                handler.on_reset(code)

    def close(self) -> None:
        """Close the stream and drop its queue, whose credit is returned. Sends nothing."""
        self.is_closed = True
        dropped = self._queue.clear()
        self._trailers = self._opening = None
        self.release(self.held)
        self.connection.forget(self)
        for part in dropped:
            part.acknowledge()

    def end_remote(self) -> None:
        """The peer has half-closed the stream."""
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
