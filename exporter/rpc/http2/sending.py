"""The sending half of a connection: the order of frames, and flow control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from exporter.rpc.http2.frames import (
    DEFAULT_FRAME_SIZE,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    MAX_WINDOW,
    ErrorCode,
    FrameType,
    ProtocolError,
    frame_header,
)
from exporter.rpc.http2.headers import NO_TABLE, Headers, encode_headers
from exporter.rpc.http2.stream import Stream

MAX_UNSENT_HEADERS = 32 << 20
"""The limit for unsent headers in bytes. Flow control does not cover them (RFC 9113, 5.2.1), and a peer may
stop reading."""

MAX_UNSENT_CONTROL = 1 << 20
"""The limit for unsent frames other than DATA and headers in bytes. Most reply to frames of the peer."""

_BURST_BYTES = 2 << 20
"""The number of bytes of DATA to write before a `flush`, in which the transport may pause us."""

_DATA = int(FrameType.DATA)

Schedule = Callable[[Callable[[], None]], None]
"""Schedules a callback, like `asyncio.loop.call_soon`."""


class Transport(Protocol):
    """Carries a connection's bytes."""

    def write(self, pieces: list[bytes | memoryview]) -> None:
        """Send bytes, or buffer them if the peer is slow. A transport with a full buffer calls `pause`."""
        ...

    def close(self) -> None:
        """Close the transport after sending what is buffered."""
        ...


class Sender:
    """The sending half of a connection.

    Frames are buffered until `flush`, which `schedule` should call once per turn of the event loop, because
    each write to a socket is expensive.

    Args:
        transport: Carries the connection's bytes.
        schedule: Schedules `flush`.

    Attributes:
        frame_size: The maximum payload of a frame: the peer's SETTINGS_MAX_FRAME_SIZE, up to our own.
        is_closed: Whether the connection is closed.
        window: The connection's send window in bytes, for all streams together.
    """

    def __init__(self, transport: Transport, schedule: Schedule) -> None:
        self.frame_size = DEFAULT_FRAME_SIZE
        self.is_closed = False
        self._transport = transport
        self._schedule = schedule
        self._is_scheduled = False
        self._is_paused = False
        self.window = DEFAULT_WINDOW
        self._waiting: dict[Stream, None] = {}
        self._out: list[bytes | memoryview] = []
        self._block_start = NO_TABLE
        self._burst = 0
        self._unsent_headers = 0
        self._unsent_control = 0

    def write(self, data: bytes | memoryview) -> None:
        """Buffer a frame other than DATA and headers until the next `flush`."""
        if not self.is_closed:
            self._unsent_control += len(data)
            self._out.append(data)
            self._ask_for_flush()

    def write_headers(self, stream_id: int, headers: Headers, *, end: bool) -> bool:
        """Buffer headers until the next `flush`.

        Returns:
            False if there are too many unsent headers already. Then these are not sent.
        """
        block = encode_headers(headers)
        if self._unsent_headers and self._unsent_headers + len(block) > MAX_UNSENT_HEADERS:
            return False
        block = self._block_start + block
        self._block_start = b""
        self._unsent_headers += len(block)
        size = self.frame_size
        view = memoryview(block)
        kind, flags = FrameType.HEADERS, END_STREAM if end else 0
        for start in range(0, len(block) or 1, size):
            piece = view[start : start + size]
            flags |= END_HEADERS if start + size >= len(block) else 0
            self._out += (frame_header(len(piece), kind, flags, stream_id), piece)
            kind, flags = FrameType.CONTINUATION, 0
        self._ask_for_flush()
        return True

    def write_data(self, stream_id: int, pieces: Sequence[bytes | memoryview], *, end: bool) -> None:
        """Buffer DATA until the next `flush`. It must fit into the windows.

        Each piece becomes a frame, or several if it is too long.
        """
        size = self.frame_size
        if any(len(piece) > size for piece in pieces):
            pieces = [
                memoryview(piece)[start : start + size]
                for piece in pieces
                for start in range(0, len(piece) or 1, size)
            ]
        for piece in pieces:
            self.window -= len(piece)
            self._burst += len(piece)
            self._out += (frame_header(len(piece), _DATA, 0, stream_id), piece)
        if end:
            self._out[-2] = frame_header(len(pieces[-1]), _DATA, END_STREAM, stream_id)
        self._ask_for_flush()

    def _ask_for_flush(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._schedule(self.flush)

    def flush(self) -> None:
        """Write the buffered frames to the transport."""
        self._is_scheduled = False
        if self.is_closed:
            self._out.clear()
            return
        if self._out:
            pieces, self._out = self._out, []
            self._transport.write(pieces)
        had_more = self._burst >= _BURST_BYTES
        self._note_sent()
        if had_more:
            self.send_waiting()

    def _note_sent(self) -> None:
        """Reset the counts of unsent bytes, unless the transport has paused us."""
        if not self._is_paused:
            self._burst = self._unsent_headers = self._unsent_control = 0

    def room(self) -> int:
        """The number of bytes of DATA that may be sent now."""
        return 0 if self._is_paused else min(self.window, _BURST_BYTES - self._burst)

    def can_send(self, amount: int) -> bool:
        """Whether `amount` bytes of DATA may be sent now."""
        return not self._is_paused and amount <= self.window and self._burst < _BURST_BYTES

    def wants_to_send(self, stream: Stream) -> None:
        """Note that a stream has queued data."""
        self._waiting[stream] = None

    def has_sent(self, stream: Stream) -> None:
        """Note that a stream has no queued data."""
        self._waiting.pop(stream, None)

    def pause(self) -> None:
        """Called by the transport when its buffer is full."""
        self._is_paused = True

    def resume(self) -> None:
        """Called by the transport when its buffer has room again."""
        self._is_paused = False
        self._note_sent()
        self.send_waiting()

    def gain_credit(self, amount: int) -> None:
        """Enlarge the connection's send window after a WINDOW_UPDATE.

        Raises:
            ProtocolError: the window exceeds 2^31-1 bytes (RFC 9113, 6.9.1).
        """
        self.window += amount
        if self.window > MAX_WINDOW:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")

    def send_waiting(self) -> None:
        """Flush the streams with queued data, round-robin: a stream that still has some goes to the end."""
        for stream in list(self._waiting):
            if self.room() <= 0:
                break
            stream.flush()
            if stream in self._waiting:
                del self._waiting[stream]
                self._waiting[stream] = None
