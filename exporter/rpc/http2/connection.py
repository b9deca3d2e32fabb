"""One HTTP/2 connection, without its transport."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from exporter.rpc.http2.frames import (
    ACK,
    DEFAULT_WINDOW,
    END_STREAM,
    HEADER_SIZE,
    MAX_WINDOW,
    PADDED,
    PING_SIZE,
    PREFACE,
    ErrorCode,
    FrameType,
    ProtocolError,
    Setting,
    frame_header,
    goaway,
    parse_goaway,
    parse_header,
    parse_settings,
    parse_word,
    settings_frame,
    strip_padding,
    window_update,
)
from exporter.rpc.http2.headers import MAX_HEADER_BYTES, BlockReader, HeaderBlock, Headers
from exporter.rpc.http2.sending import Schedule, Sender, Transport
from exporter.rpc.http2.stream import STREAM_WINDOW, Stream

CONNECTION_WINDOW = 16 << 20
"""Bytes that a peer may send ahead on all streams."""

MAX_FRAME_SIZE = 64 << 10
"""Longest frame that is taken. Go sends frames of 16 KiB in any case."""

_DATA, _WINDOW_UPDATE = int(FrameType.DATA), int(FrameType.WINDOW_UPDATE)
"""Frames that come in tens of thousands: a member of an enumeration is slow to get and to compare."""


class Connection(Sender):
    """A connection.

    Args:
        transport: Carries its bytes.
        schedule: See `Sender`.
        is_client: Whether streams are opened here; if not, the peer opens them.

    Attributes:
        on_stream: Is given each stream that the peer opens, its headers, and whether nothing follows; it sets
            the stream's handler.
        on_closed: Told the end of the connection, with the reason unless it ended well.
        on_goaway: Told that the peer takes no new streams.
        on_settings: Told that the peer has sent settings: it speaks HTTP/2.
        on_room: Told that a stream has ended, that the peer's limit of streams has changed, or that no more
            streams can be opened.
        has_settings: Whether it has.
        max_streams: How many streams of ours the peer allows at once; None for no limit.
    """

    def __init__(
        self,
        transport: Transport,
        schedule: Schedule,
        *,
        is_client: bool,
    ) -> None:
        super().__init__(transport, schedule)
        self.on_stream: Callable[[Stream, Headers, bool], None] | None = None
        self.on_closed: Callable[[Exception | None], None] | None = None
        self.on_goaway: Callable[[], None] | None = None
        self.on_settings: Callable[[], None] | None = None
        self.on_room: Callable[[], None] | None = None
        self.has_settings = False
        self.max_streams: int | None = None
        self._is_client = is_client
        self._streams: dict[int, Stream] = {}
        self._next_id = 1
        self._last_peer_id = 0
        self._stream_window = DEFAULT_WINDOW
        self._receive_window = CONNECTION_WINDOW
        self._owed = 0
        self._has_new_credit = False
        self._is_draining = False
        self._rest = b""
        self._needs_preface = not is_client
        self._blocks = BlockReader()
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

    @property
    def has_room(self) -> bool:
        """Whether the peer's limit allows one more stream of ours. `open_stream` leaves it to its caller."""
        return self.max_streams is None or len(self._streams) < self.max_streams

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
        self._tell_room()

    def _tell_room(self) -> None:
        if self.on_room is not None:
            self.on_room()

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
        self._tell_room()

    # What comes in.

    def receive(self, *pieces: bytes | memoryview) -> None:
        """Take bytes from the transport."""
        try:
            self._receive(b"".join((self._rest, *pieces)))
            if self._has_new_credit:  # it comes in many small parts
                self._has_new_credit = False
                self.send_waiting()
        except ProtocolError as error:
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
            if self._blocks.is_open and kind != FrameType.CONTINUATION:
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
                self._receive_block(self._blocks.begin(stream_id, flags, payload))
            case FrameType.CONTINUATION:
                self._receive_block(self._blocks.proceed(stream_id, flags, payload))
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
                self._refuse_after(parse_goaway(payload))
                if not self._streams:
                    self.close()
                self._tell_room()
            case FrameType.PUSH_PROMISE:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "pushes are not taken")
            case _:
                pass  # PRIORITY, acknowledgements, and what is unknown

    def _refuse_after(self, last_id: int) -> None:
        """End streams of ours that the peer has not taken up and never will."""
        for stream in list(self._streams.values()) if self._is_client else ():
            if stream.id > last_id:
                handler = stream.handler
                stream.close()
                if handler is not None:
                    handler.on_reset(ErrorCode.REFUSED_STREAM)

    def _receive_block(self, block: HeaderBlock | None) -> None:
        if block is None:
            return  # there is more of it to come
        stream = self._streams.get(block.stream_id)
        if stream is None:
            self._receive_new(block)
            return
        handler = stream.handler
        if block.end:
            stream.end_remote()
        if handler is not None:
            handler.on_headers(block.headers, end=block.end)

    def _receive_new(self, block: HeaderBlock) -> None:
        stream_id = block.stream_id
        if not self._is_idle(stream_id):
            return  # of a stream that was ended here meanwhile
        if self._is_client or stream_id % 2 == 0 or self.on_stream is None:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"the peer may not open stream {stream_id}")
        self._last_peer_id = stream_id
        stream = Stream(self, stream_id, self._stream_window)
        stream.remote_ended = block.end
        self._streams[stream_id] = stream
        self.on_stream(stream, block.headers, block.end)

    def _receive_credit(self, stream_id: int, amount: int) -> None:
        if amount == 0:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
        if stream_id == 0:
            self.gain_credit(amount)
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
                case Setting.MAX_CONCURRENT_STREAMS:
                    self.max_streams = value
                case Setting.MAX_FRAME_SIZE:
                    self.frame_size = min(value, MAX_FRAME_SIZE)
                case _:
                    pass
        self.write(frame_header(0, FrameType.SETTINGS, ACK, 0))
        self._has_new_credit = True
        self.has_settings = True
        if self.on_settings is not None:
            self.on_settings()
        self._tell_room()
