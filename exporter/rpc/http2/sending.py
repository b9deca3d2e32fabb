"""What a connection sends: in order, and as far as the peer gives credit for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from exporter.rpc.http2.frames import (
    DEFAULT_FRAME_SIZE,
    DEFAULT_WINDOW,
    END_STREAM,
    MAX_WINDOW,
    ErrorCode,
    FrameType,
    ProtocolError,
    frame_header,
)
from exporter.rpc.http2.headers import NO_TABLE, Headers, encode_headers
from exporter.rpc.http2.stream import Stream

_DATA = int(FrameType.DATA)

Schedule = Callable[[Callable[[], None]], None]
"""Schedules a callback, like `asyncio.loop.call_soon`."""


class Transport(Protocol):
    """What carries a connection's bytes."""

    def write(self, pieces: list[bytes | memoryview]) -> None:
        """Send bytes. More may come although the other side is slow: the connection is told by `pause`."""
        ...

    def close(self) -> None:
        """End it, once all has been sent."""
        ...


class Sender:
    """The sending half of a connection.

    What is written waits until `flush`, which is asked for through `schedule`: once per turn of the event
    loop is right, since every write of a socket has its price.

    Args:
        transport: Carries its bytes.
        schedule: Schedules `flush`.

    Attributes:
        frame_size: Length of the longest frame that the peer takes.
        is_closed: Whether nothing more is sent.
    """

    def __init__(self, transport: Transport, schedule: Schedule) -> None:
        self.frame_size = DEFAULT_FRAME_SIZE
        self.is_closed = False
        self._transport = transport
        self._schedule = schedule
        self._is_scheduled = False
        self._is_paused = False
        self._window = DEFAULT_WINDOW
        self._waiting: dict[int, Stream] = {}
        self._out: list[bytes | memoryview] = []
        self._block_start = NO_TABLE

    def write(self, data: bytes | memoryview) -> None:
        """Have bytes sent with the next `flush`."""
        self._out.append(data)
        self._ask_for_flush()

    def write_data(self, stream_id: int, pieces: Sequence[bytes | memoryview], *, end: bool) -> None:
        """Have DATA sent with the next `flush`. The peer must have given credit for it.

        Each piece becomes a frame, or several if it is too long for one.
        """
        size = self.frame_size
        if any(len(piece) > size for piece in pieces):
            pieces = [
                memoryview(piece)[start : start + size]
                for piece in pieces
                for start in range(0, len(piece) or 1, size)
            ]
        for piece in pieces:
            self._window -= len(piece)
            self._out += (frame_header(len(piece), _DATA, 0, stream_id), piece)
        if end:
            self._out[-2] = frame_header(len(pieces[-1]), _DATA, END_STREAM, stream_id)
        self._ask_for_flush()

    def _ask_for_flush(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._schedule(self.flush)

    def flush(self) -> None:
        """Send what was written."""
        self._is_scheduled = False
        if self._out and not self.is_closed:
            pieces, self._out = self._out, []
            self._transport.write(pieces)

    def encode(self, headers: Headers) -> bytes:
        """Encode headers. They must be sent in the order in which they were encoded."""
        start, self._block_start = self._block_start, b""
        return start + encode_headers(headers)

    def room(self) -> int:
        """Bytes that may be sent now."""
        return 0 if self._is_paused else self._window

    def can_send(self, amount: int) -> bool:
        """Whether that many bytes may be sent now."""
        return not self._is_paused and amount <= self._window

    def wants_to_send(self, stream: Stream) -> None:
        """Note that a stream waits for credit."""
        self._waiting[stream.id] = stream

    def has_sent(self, stream: Stream) -> None:
        """Note that a stream waits no more."""
        self._waiting.pop(stream.id, None)

    def pause(self) -> None:
        """The transport has enough to send."""
        self._is_paused = True

    def resume(self) -> None:
        """The transport takes more."""
        self._is_paused = False
        self.send_waiting()

    def gain_credit(self, amount: int) -> None:
        """Note that the peer takes more, on all streams together.

        Raises:
            ProtocolError: it is more than there can be.
        """
        self._window += amount
        if self._window > MAX_WINDOW:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")

    def send_waiting(self) -> None:
        """Give every stream that waits its turn; who must wait on is the last the next time."""
        for stream in list(self._waiting.values()):
            if self._window <= 0 or self._is_paused:
                break
            stream.flush()
            if self._waiting.pop(stream.id, None) is not None:
                self._waiting[stream.id] = stream
