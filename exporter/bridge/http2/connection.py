"""One HTTP/2 connection, without its transport."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import hpack

from exporter.bridge.http2.frames import (
    ACK,
    DEFAULT_FRAME_SIZE,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEADER_SIZE,
    MAX_WINDOW,
    PADDED,
    PING_SIZE,
    PREFACE,
    PRIORITY,
    ErrorCode,
    FrameType,
    ProtocolError,
    Setting,
    frame_header,
    goaway,
    parse_header,
    parse_settings,
    parse_word,
    settings_frame,
    strip_padding,
    window_update,
)
from exporter.bridge.http2.headers import NO_TABLE, encode_headers
from exporter.bridge.http2.stream import STREAM_WINDOW, Headers, Stream

CONNECTION_WINDOW = 16 << 20
"""Bytes that a peer may send ahead on all streams."""

MAX_FRAME_SIZE = 64 << 10
"""Longest frame that is taken. Go sends frames of 16 KiB in any case."""

MAX_HEADER_BYTES = 16 << 20
"""Largest headers: metadata of exports, and build errors with their sources."""


_DATA, _WINDOW_UPDATE = int(FrameType.DATA), int(FrameType.WINDOW_UPDATE)
"""Frames that come in tens of thousands: a member of an enumeration is slow to get and to compare."""

Schedule = Callable[[Callable[[], None]], None]
"""Has a function called soon."""


class Transport(Protocol):
    """What carries a connection's bytes."""

    def write(self, pieces: list[bytes | memoryview]) -> None:
        """Send bytes. More may come although the other side is slow: the connection is told by `pause`."""
        ...

    def close(self) -> None:
        """End it, once all has been sent."""
        ...


class Connection:
    """A connection.

    What is written waits until `flush`, which is asked for through `schedule`: once per turn of the event
    loop is right, since every write of a socket has its price.

    Args:
        transport: Carries its bytes.
        schedule: Has a function called soon: `flush`.
        is_client: Whether streams are opened here; if not, the peer opens them.

    Attributes:
        on_stream: Is given each stream that the peer opens, its headers, and whether nothing follows; it sets
            the stream's handler.
        on_closed: Told the end of the connection, with the reason if it was no good one.
        on_goaway: Told that the peer takes no new streams.
    """

    def __init__(
        self,
        transport: Transport,
        schedule: Schedule,
        *,
        is_client: bool,
    ) -> None:
        self.on_stream: Callable[[Stream, Headers, bool], None] | None = None
        self.on_closed: Callable[[Exception | None], None] | None = None
        self.on_goaway: Callable[[], None] | None = None
        self.frame_size = DEFAULT_FRAME_SIZE
        self.is_closed = False
        self._is_scheduled = False
        self._transport = transport
        self._schedule = schedule
        self._is_client = is_client
        self._streams: dict[int, Stream] = {}
        self._waiting: dict[int, Stream] = {}
        self._next_id = 1
        self._last_peer_id = 0
        self._window = DEFAULT_WINDOW
        self._stream_window = DEFAULT_WINDOW
        self._receive_window = CONNECTION_WINDOW
        self._owed = 0
        self._has_new_credit = False
        self._is_paused = False
        self._is_draining = False
        self._out: list[bytes | memoryview] = []
        self._rest = b""
        self._needs_preface = not is_client
        self._block: tuple[int, int, bytearray] | None = None
        self._block_start = NO_TABLE
        self._decoder = hpack.Decoder(MAX_HEADER_BYTES)
        if is_client:
            self.write(PREFACE)
        settings = {
            Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            Setting.MAX_FRAME_SIZE: MAX_FRAME_SIZE,
            Setting.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES,
        }
        if is_client:
            settings[Setting.ENABLE_PUSH] = 0
        self.write(settings_frame({int(key): value for key, value in settings.items()}))
        self.write(window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW))

    # What goes out.

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

    def open_stream(self, headers: Headers, *, end: bool) -> Stream:
        """Open a stream.

        Raises:
            ProtocolError: the peer takes no more streams.
        """
        if self.is_closed or self._is_draining:
            raise ProtocolError(ErrorCode.REFUSED_STREAM, "the connection is closing")
        stream = Stream(self, self._next_id, self._stream_window)
        self._next_id += 2
        self._streams[stream.id] = stream
        stream.send_headers(headers, end=end)
        return stream

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

    def give_credit(self, amount: int) -> None:
        """Let the peer send more."""
        self._owed += amount
        if self._owed >= CONNECTION_WINDOW // 4 and not self.is_closed:
            self.write(window_update(0, self._owed))
            self._receive_window += self._owed
            self._owed = 0

    def forget(self, stream: Stream) -> None:
        """Drop a stream that has ended."""
        self._streams.pop(stream.id, None)
        self._waiting.pop(stream.id, None)
        if self._is_draining and not self._streams:
            self.close()

    def pause(self) -> None:
        """The transport has enough to send."""
        self._is_paused = True

    def resume(self) -> None:
        """The transport takes more."""
        self._is_paused = False
        self._send_waiting()

    def go_away(self) -> None:
        """Ask the peer to open new streams elsewhere."""
        if not self.is_closed:
            self.write(goaway(self._last_peer_id, ErrorCode.NO_ERROR))

    def close(self, error: Exception | None = None) -> None:
        """End the connection; streams that are open are reset for their handlers."""
        if self.is_closed:
            return
        if isinstance(error, ProtocolError):
            self._out.append(goaway(self._last_peer_id, error.code, str(error).encode()))
        self.flush()
        self.is_closed = True
        self._transport.close()
        if self.on_closed is not None:
            self.on_closed(error)
        for stream in list(self._streams.values()):
            handler = stream.handler
            stream.close()
            if handler is not None:
                handler.on_reset(ErrorCode.CANCEL)

    # What comes in.

    def receive(self, *pieces: bytes | memoryview) -> None:
        """Take bytes from the transport."""
        try:
            self._receive(b"".join((self._rest, *pieces)))
            if self._has_new_credit:  # it comes in many small parts
                self._has_new_credit = False
                self._send_waiting()
        except (ProtocolError, hpack.HPACKError) as error:
            if not isinstance(error, ProtocolError):
                error = ProtocolError(ErrorCode.COMPRESSION_ERROR, str(error))
            self.close(error)

    def _receive(self, data: bytes) -> None:
        position, end = 0, len(data)
        if self._needs_preface:
            if end < len(PREFACE) and PREFACE.startswith(data):
                self._rest = data
                return
            if not data.startswith(PREFACE):
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "the peer does not speak HTTP/2")
            position = len(PREFACE)
            self._needs_preface = False
        view = memoryview(data)
        while end - position >= HEADER_SIZE:
            length, kind, flags, stream_id = parse_header(data, position)
            if length > MAX_FRAME_SIZE:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            stop = position + HEADER_SIZE + length
            if stop > end:
                break
            if self._block is not None and kind != FrameType.CONTINUATION:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a header block is cut off")
            if kind == _DATA:
                position = self._receive_data(data, position)
                if self.is_closed:
                    return
                continue
            payload = view[position + HEADER_SIZE : stop]
            position = stop
            if kind == _WINDOW_UPDATE:
                self._receive_credit(stream_id, parse_word(payload, FrameType.WINDOW_UPDATE))
            else:
                self._receive_other(kind, flags, stream_id, payload)
            if self.is_closed:
                return
        self._rest = data[position:]

    def _receive_data(self, data: bytes, position: int) -> int:
        """Take a frame of DATA, and those of the same stream that follow it at once; returns where they end.

        They mostly come in long runs, which cost little more than a single one.
        """
        _, _, flags, stream_id = parse_header(data, position)
        view, end = memoryview(data), len(data)
        pieces: list[bytes | memoryview] = []
        amount = 0
        is_last = False
        while end - position >= HEADER_SIZE and not is_last:
            length, kind, flags, found_id = parse_header(data, position)
            stop = position + HEADER_SIZE + length
            if kind != _DATA or found_id != stream_id or stop > end or length > MAX_FRAME_SIZE:
                break
            payload = view[position + HEADER_SIZE : stop]
            pieces.append(strip_padding(payload, flags) if flags & PADDED else payload)
            amount += length
            position = stop
            is_last = bool(flags & END_STREAM)
        self._receive_window -= amount
        if self._receive_window < 0:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than there was credit for")
        stream = self._streams.get(stream_id)
        if stream is None or stream.handler is None or stream.remote_ended:
            self._stray_data(stream_id, amount)
            return position
        handler = stream.handler
        stream.note_received(amount)
        if is_last:
            stream.end_remote()
        handler.on_data(pieces, amount, end=is_last)
        return position

    def _stray_data(self, stream_id: int, length: int) -> None:
        """Data of a stream that was ended here meanwhile."""
        if stream_id == 0 or self._is_idle(stream_id):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"DATA on stream {stream_id}, which is not open")
        self.give_credit(length)

    def _is_idle(self, stream_id: int) -> bool:
        is_ours = (stream_id % 2 == 1) == self._is_client
        return stream_id >= self._next_id if is_ours else stream_id > self._last_peer_id

    def _receive_other(self, kind: int, flags: int, stream_id: int, payload: memoryview) -> None:
        match kind:
            case FrameType.HEADERS:
                self._receive_headers(flags, stream_id, payload)
            case FrameType.CONTINUATION:
                self._receive_continuation(flags, stream_id, payload)
            case FrameType.RST_STREAM:
                self._receive_reset(stream_id, parse_word(payload, FrameType.RST_STREAM))
            case FrameType.SETTINGS if not flags & ACK:
                self._receive_settings(parse_settings(bytes(payload)))
            case FrameType.PING if len(payload) != PING_SIZE:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"PING of {len(payload)} bytes")
            case FrameType.PING if not flags & ACK:
                self.write(frame_header(len(payload), FrameType.PING, ACK, 0))
                self.write(bytes(payload))
            case FrameType.GOAWAY:
                self._is_draining = True
                if self.on_goaway is not None:
                    self.on_goaway()
                if not self._streams:
                    self.close()
            case FrameType.PUSH_PROMISE:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "pushes are not taken")
            case _:
                pass  # PRIORITY, acknowledgements, and what is unknown

    def _receive_headers(self, flags: int, stream_id: int, payload: memoryview) -> None:
        block = strip_padding(payload, flags)
        if flags & PRIORITY:
            block = block[5:]
        self._block = (stream_id, flags, bytearray(block))
        if flags & END_HEADERS:
            self._finish_headers()

    def _receive_continuation(self, flags: int, stream_id: int, payload: memoryview) -> None:
        if self._block is None or self._block[0] != stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._block[2].extend(payload)
        if len(self._block[2]) > MAX_HEADER_BYTES:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "headers are too large")
        if flags & END_HEADERS:
            self._finish_headers()

    def _finish_headers(self) -> None:
        assert self._block is not None
        stream_id, flags, block = self._block
        self._block = None
        # Tuples of a type that tells which headers must not be indexed.
        headers: Headers = list(self._decoder.decode(bytes(block), raw=True))
        end = bool(flags & END_STREAM)
        stream = self._streams.get(stream_id)
        if stream is None:
            self._receive_new(stream_id, headers, end)
            return
        handler = stream.handler
        if end:
            stream.end_remote()
        if handler is not None:
            handler.on_headers(headers, end=end)

    def _receive_new(self, stream_id: int, headers: Headers, end: bool) -> None:
        if not self._is_idle(stream_id):
            return  # of a stream that was ended here meanwhile
        if self._is_client or stream_id % 2 == 0 or self.on_stream is None:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"the peer may not open stream {stream_id}")
        self._last_peer_id = stream_id
        stream = Stream(self, stream_id, self._stream_window)
        stream.remote_ended = end
        self._streams[stream_id] = stream
        self.on_stream(stream, headers, end)

    def _receive_credit(self, stream_id: int, amount: int) -> None:
        if amount == 0:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
        if stream_id == 0:
            self._window += amount
            if self._window > MAX_WINDOW:
                raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")
            self._has_new_credit = True
        elif (stream := self._streams.get(stream_id)) is not None:
            stream.window += amount
            if stream.window > MAX_WINDOW:
                raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, f"stream {stream_id}: too large a window")
            self._has_new_credit = True

    def _receive_reset(self, stream_id: int, code: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            handler = stream.handler
            stream.close()
            if handler is not None:
                handler.on_reset(code)

    def _receive_settings(self, settings: Iterable[tuple[int, int]]) -> None:
        for key, value in settings:
            match key:
                case Setting.INITIAL_WINDOW_SIZE:
                    if value > MAX_WINDOW:
                        raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, f"windows of {value} bytes")
                    change, self._stream_window = value - self._stream_window, value
                    for stream in self._streams.values():
                        stream.window += change
                case Setting.MAX_FRAME_SIZE:
                    self.frame_size = min(value, MAX_FRAME_SIZE)
                case _:
                    pass
        self.write(frame_header(0, FrameType.SETTINGS, ACK, 0))
        self._has_new_credit = True

    def _send_waiting(self) -> None:
        """Give every stream that waits its turn; who must wait on is the last the next time."""
        for stream in list(self._waiting.values()):
            if self._window <= 0 or self._is_paused:
                break
            stream.flush()
            if self._waiting.pop(stream.id, None) is not None:
                self._waiting[stream.id] = stream
