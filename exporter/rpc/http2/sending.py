"""What a connection sends: in order, and as far as the peer gives credit for it."""

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
"""Bytes of headers that may wait for a peer that does not read: there is no flow control for them."""

MAX_UNSENT_CONTROL = 1 << 20
"""Bytes of all other frames but DATA that may wait for it: answers to what it sends, mostly."""

_BURST_BYTES = 2 << 20
"""Bytes of DATA that are sent before the transport is asked whether it takes more."""

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
        window: Bytes of DATA for which the peer has given credit, on all streams together.
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
        """Have a frame sent with the next `flush`."""
        if not self.is_closed:
            self._unsent_control += len(data)
            self._out.append(data)
            self._ask_for_flush()

    def write_headers(self, stream_id: int, headers: Headers, *, end: bool) -> bool:
        """Have headers sent with the next `flush`.

        Returns:
            Whether they will be; not if so many wait already that they would be too many.
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
        """Send what was written."""
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
        """What was written has gone, unless the transport says that it has too much."""
        if not self._is_paused:
            self._burst = self._unsent_headers = self._unsent_control = 0

    def room(self) -> int:
        """Bytes that may be sent now."""
        return 0 if self._is_paused else min(self.window, _BURST_BYTES - self._burst)

    def can_send(self, amount: int) -> bool:
        """Whether that many bytes may be sent now."""
        return not self._is_paused and amount <= self.window and self._burst < _BURST_BYTES

    def wants_to_send(self, stream: Stream) -> None:
        """Note that a stream waits for credit."""
        self._waiting[stream] = None

    def has_sent(self, stream: Stream) -> None:
        """Note that a stream waits no more."""
        self._waiting.pop(stream, None)

    def pause(self) -> None:
        """The transport has enough to send."""
        self._is_paused = True

    def resume(self) -> None:
        """The transport takes more."""
        self._is_paused = False
        self._note_sent()
        self.send_waiting()

    def gain_credit(self, amount: int) -> None:
        """Note that the peer takes more, on all streams together.

        Raises:
            ProtocolError: it is more than there can be.
        """
        self.window += amount
        if self.window > MAX_WINDOW:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")

    def send_waiting(self) -> None:
        """Give every stream that waits its turn; who must wait on is the last the next time."""
        for stream in list(self._waiting):
            if self.room() <= 0:
                break
            stream.flush()
            if stream in self._waiting:
                del self._waiting[stream]
                self._waiting[stream] = None
