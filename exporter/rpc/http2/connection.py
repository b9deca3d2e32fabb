"""One HTTP/2 connection, without its transport."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

from exporter.rpc.http2.budget import Allowance, Budget, Share
from exporter.rpc.http2.frame_reader import MAX_FRAME_SIZE, FrameReader
from exporter.rpc.http2.frames import (
    ACK,
    DEFAULT_WINDOW,
    MAX_WINDOW,
    PREFACE,
    ErrorCode,
    FrameType,
    ProtocolError,
    Setting,
    frame_header,
    goaway,
    parse_goaway,
    parse_settings,
    parse_word,
    settings_frame,
    window_update,
)
from exporter.rpc.http2.headers import MAX_HEADER_BYTES, BlockReader, HeaderBlock, Headers, memory_of
from exporter.rpc.http2.rules import (
    check_setting,
    wrong_answer,
    wrong_request,
    wrong_trailers,
)
from exporter.rpc.http2.sending import MAX_UNSENT_CONTROL, Schedule, Sender, Transport
from exporter.rpc.http2.stream import STREAM_WINDOW, Stream

CONNECTION_WINDOW = 16 << 20
"""The receive window of the connection in bytes (RFC 9113, 6.9.1), for all streams together."""

_ADVANCE = 4 << 20
"""The credit in bytes that is given in advance if streams that are not read have used up most of the window.
Otherwise, 16 of them would stop all others of their connection."""

MAX_STREAMS = 2048
"""Our SETTINGS_MAX_CONCURRENT_STREAMS. A large build has three or four streams per target."""

_RESETS, _RESETS_PER_SECOND = 2000, 100.0
"""Rate limit for streams that the peer resets, or that we reset because of its errors (RFC 9113, 10.5): the
burst, and the number per second."""

_USUAL_FIELDS, _FIELDS, _FIELDS_PER_SECOND = 64, 16384, 1000.0
"""Fields per header block that are not limited, and the rate limit for all others: the burst, and the number
per second. A field needs as little as one byte on the wire, but takes microseconds to process."""

logger = logging.getLogger(__name__)


class Connection(Sender):
    """An HTTP/2 connection, as client or as server.

    Args:
        transport: Carries the connection's bytes.
        schedule: See `Sender`.
        is_client: Whether we are the client, which opens streams, or the server.
        share: Counts the bytes held for the connection; None for a budget of its own.
        max_header_bytes: Our SETTINGS_MAX_HEADER_LIST_SIZE.

    Attributes:
        on_stream: Called with each stream that the peer opens, its headers, and whether they have END_STREAM.
            It sets the stream's handler.
        on_closed: Called when the connection has been closed, with the error or None.
        on_goaway: Called when the peer has sent GOAWAY and accepts no new streams.
        on_settings: Called after SETTINGS of the peer. The first ones prove that it speaks HTTP/2.
        has_settings: Whether the peer has sent SETTINGS.
        max_streams: The peer's SETTINGS_MAX_CONCURRENT_STREAMS; None for no limit.
    """

    def __init__(
        self,
        transport: Transport,
        schedule: Schedule,
        *,
        is_client: bool,
        share: Share | None = None,
        max_header_bytes: int = MAX_HEADER_BYTES,
    ) -> None:
        super().__init__(transport, schedule)
        self.share = share or Budget().share()
        if self.share.on_exhausted is None:
            self.share.on_exhausted = self._give_up
        self.on_stream: Callable[[Stream, Headers, bool], None] | None = None
        self.on_closed: Callable[[Exception | None], None] | None = None
        self.on_goaway: Callable[[], None] | None = None
        self.on_settings: Callable[[], None] | None = None
        self.has_settings = False
        self.max_streams: int | None = None
        self._is_client = is_client
        self._streams: dict[int, Stream] = {}
        self._pending: deque[Stream] = deque()
        self._next_id = 1
        self._last_peer_id = 0
        self._stream_window = DEFAULT_WINDOW
        self._new_stream_window: int | None = None
        self._acks = 0
        self._receive_window = CONNECTION_WINDOW
        self._owed = 0
        self._advanced = 0
        self._has_new_credit = False
        self._is_draining = False
        self._blocks = BlockReader(max_header_bytes)
        self._frames = FrameReader(self, self._blocks, needs_preface=not is_client)
        self._held_by_block = 0
        self._resets = Allowance(_RESETS, _RESETS_PER_SECOND, time.monotonic)
        self._fields = Allowance(_FIELDS, _FIELDS_PER_SECOND, time.monotonic)
        if is_client:
            self.write(PREFACE)
        settings = {
            Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            Setting.MAX_FRAME_SIZE: MAX_FRAME_SIZE,
            Setting.MAX_HEADER_LIST_SIZE: max_header_bytes,
        }
        if is_client:
            settings[Setting.ENABLE_PUSH] = 0
        else:
            settings[Setting.MAX_CONCURRENT_STREAMS] = MAX_STREAMS
        self.write(settings_frame({int(key): value for key, value in settings.items()}))
        self.write(window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW))

    @property
    def is_idle(self) -> bool:
        """Whether no stream is open."""
        return not self._streams and not self._pending

    @property
    def unfinished(self) -> int:
        """See `Guest.unfinished`: 1 if the peer has not sent SETTINGS, else a number of its header block."""
        if not self.has_settings:
            return 1
        return 2 + self._blocks.begun if self._blocks.is_open else 0

    # Sending.

    @property
    def _has_room(self) -> bool:
        """Whether the peer's MAX_CONCURRENT_STREAMS allows one more stream now."""
        return self.max_streams is None or len(self._streams) < self.max_streams

    def open_stream(self, headers: Headers, *, end: bool) -> Stream:
        """Open a stream now, or as soon as the peer's stream limit allows it.

        Raises:
            ProtocolError: the peer accepts no more streams, or too many headers are pending.
        """
        if self.is_closed or self._is_draining or self._next_id > MAX_WINDOW:
            raise ProtocolError(ErrorCode.REFUSED_STREAM, "the connection is closing")
        stream = Stream(self, 0, 0)
        stream.wait_to_open(headers, end=end)
        if self._has_room and not self._pending:
            self._open(stream)
        elif stream.hold(memory_of(headers)):
            self._pending.append(stream)
        else:
            stream.close()
        if stream.is_closed:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many headers are waiting for the peer")
        return stream

    def _open(self, stream: Stream) -> None:
        stream_id = self._next_id
        stream.open(stream_id, self._stream_window)
        if not stream.is_closed:
            self._next_id += 2
            self._streams[stream_id] = stream

    def _open_pending(self) -> None:
        """Open pending streams, as far as the peer's stream limit allows."""
        while self._pending and self._has_room and not self.is_closed and not self._is_draining:
            stream = self._pending.popleft()
            if not stream.is_closed:
                self._open(stream)
                stream.start_sending()

    def give_credit(self, amount: int) -> None:
        """Return credit for the connection's window to the peer. WINDOW_UPDATEs are batched."""
        if self._advanced:
            repaid = min(amount, self._advanced)
            self._advanced -= repaid
            self.share.give(repaid)
            amount -= repaid
        self._owed += amount
        if self._owed >= CONNECTION_WINDOW // 4 and not self.is_closed:
            self.write(window_update(0, self._owed))
            self._receive_window += self._owed
            self._owed = 0

    def _advance_credit(self) -> None:
        """Give credit for data that is still buffered, as long as half of the share suffices to count it."""
        if self._advanced + _ADVANCE <= self.share.limit // 2 and self.share.take(_ADVANCE):
            self._advanced += _ADVANCE
            self._receive_window += _ADVANCE
            self.write(window_update(0, _ADVANCE))

    def forget(self, stream: Stream) -> None:
        """Remove a stream that has ended."""
        self._streams.pop(stream.id, None)
        self._waiting.pop(stream, None)
        if self._is_draining and not self._streams:
            self.close()
        elif self._pending:
            self._open_pending()

    def go_away(self) -> None:
        """Send GOAWAY: the peer should open new streams on another connection (RFC 9113, 6.8)."""
        if not self.is_closed:
            self.write(goaway(self._last_peer_id, ErrorCode.NO_ERROR))

    def close(self, error: Exception | None = None) -> None:
        """Close the connection. The handlers of all open streams get `on_reset`."""
        if self.is_closed:
            return
        if isinstance(error, ProtocolError):
            self._out.append(goaway(self._last_peer_id, error.code, str(error).encode()))
        if self._out:
            pieces, self._out = self._out, []
            self._transport.write(pieces)
        self.is_closed = True
        self._transport.close()
        self.share.give(self._held_by_block)
        self._held_by_block = 0
        self.share.give(self._advanced)
        self._advanced = 0
        if self.on_closed is not None:
            self.on_closed(error)
        self._end_streams([*self._streams.values(), *self._pending], ErrorCode.CANCEL)
        self._pending.clear()

    def _give_up(self) -> None:
        text = "the memory limit for all connections is exceeded, and this one holds the most"
        self.close(ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, text))

    @staticmethod
    def _end_streams(streams: list[Stream], code: int) -> None:
        for stream in streams:
            if not stream.is_closed:
                handler = stream.handler
                stream.close()
                if handler is not None:
                    handler.on_reset(code)

    # Receiving.

    def receive(self, *pieces: bytes | memoryview) -> None:
        """Process bytes that the transport has received."""
        if self.is_closed:
            return
        try:
            self._frames.receive(pieces)
            self._apply_settings()
            if self._unsent_control > MAX_UNSENT_CONTROL:
                text = "the peer does not read the answers to what it sends"
                raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, text)
            if self._has_new_credit:  # WINDOW_UPDATEs are small and many: use their credit once per call
                self._has_new_credit = False
                self.send_waiting()
        except ProtocolError as error:
            self.close(error)
        except Exception:  # a bug of ours must not affect other connections
            logger.exception("closing a connection after an internal error")
            self.close(ProtocolError(ErrorCode.INTERNAL_ERROR, "internal error"))

    def on_data(
        self, stream_id: int, pieces: Sequence[bytes | memoryview], amount: int, *, end: bool
    ) -> None:
        """See `FrameHandler.on_data`."""
        self._receive_window -= amount
        if self._receive_window < 0:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than there was credit for")
        stream = self._streams.get(stream_id)
        if stream is None or stream.handler is None or stream.remote_ended:
            self._stray_data(stream_id, amount)
            if stream is not None:
                self._fail_stream(stream, ErrorCode.STREAM_CLOSED, "DATA after its end")
            return
        handler = stream.handler
        stream.note_received(amount)
        if end:
            stream.end_remote()
        handler.on_data(pieces, amount, end=end)
        if self._receive_window + self._owed < CONNECTION_WINDOW // 4 and not self.is_closed:
            self._advance_credit()

    def _stray_data(self, stream_id: int, length: int) -> None:
        """Return the connection's credit for DATA of a stream that we have closed (RFC 9113, 5.1 and 6.9)."""
        if stream_id == 0 or self._is_idle(stream_id):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"DATA on stream {stream_id}, which is not open")
        self.give_credit(length)

    def _is_idle(self, stream_id: int) -> bool:
        is_ours = (stream_id % 2 == 1) == self._is_client
        return stream_id >= self._next_id if is_ours else stream_id > self._last_peer_id

    def on_frame(self, kind: int, flags: int, stream_id: int, payload: memoryview) -> None:
        """See `FrameHandler.on_frame`."""
        match kind:
            case FrameType.HEADERS:
                self._receive_block(self._blocks.begin(stream_id, flags, payload))
            case FrameType.CONTINUATION:
                self._receive_block(self._blocks.proceed(stream_id, flags, payload))
            case FrameType.RST_STREAM:
                self._receive_reset(stream_id, parse_word(payload, FrameType.RST_STREAM))
            case FrameType.SETTINGS if not flags & ACK:
                self._receive_settings(payload)
            case FrameType.PING if not flags & ACK:
                self.write(frame_header(len(payload), FrameType.PING, ACK, 0) + payload)
            case FrameType.GOAWAY:
                self._receive_goaway(parse_goaway(payload))
            case FrameType.PUSH_PROMISE:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "pushes are not supported")
            case _:
                pass  # PRIORITY, acknowledgements, and unknown types (RFC 9113, 5.5)

    def _receive_block(self, block: HeaderBlock | None) -> None:
        self._count_block()
        if block is None:
            return  # CONTINUATION follows
        unusual = len(block.headers) - _USUAL_FIELDS
        if unusual > 0 and not self._fields.use(unusual):
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "calls have too many headers")
        stream = self._streams.get(block.stream_id)
        if stream is None:
            self._receive_new(block)
            return
        handler = stream.handler
        text = self._wrong_headers(stream, block)
        if stream.remote_ended:
            self._fail_stream(stream, ErrorCode.STREAM_CLOSED, "headers after its end")
        elif text:
            self._fail_stream(stream, ErrorCode.PROTOCOL_ERROR, text)
        else:
            if block.end:
                stream.end_remote()
            if handler is not None:
                handler.on_headers(block.headers, end=block.end)

    def _count_block(self) -> None:
        """Count the buffered bytes of an incomplete header block."""
        held = self._blocks.held
        if held > self._held_by_block and not self.share.take(held - self._held_by_block):
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "headers are too large")
        if held < self._held_by_block:
            self.share.give(self._held_by_block - held)
        self._held_by_block = held

    def _wrong_headers(self, stream: Stream, block: HeaderBlock) -> str:
        """Why further headers of a stream are malformed (RFC 9113, 8.1); empty if they are not."""
        if self._is_client:
            is_last, stream.has_headers = stream.has_headers, stream.has_headers or not _is_interim(block)
            if is_last and not block.end:
                return "trailers that do not end it"
            return wrong_answer(block.headers, is_last=is_last)
        return wrong_trailers(block.headers) if block.end else "trailers that do not end it"

    def _receive_new(self, block: HeaderBlock) -> None:
        stream_id = block.stream_id
        if not self._is_idle(stream_id):
            return  # for a stream that we have closed
        if self._is_client or stream_id % 2 == 0 or self.on_stream is None:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"the peer may not open stream {stream_id}")
        self._last_peer_id = stream_id
        stream = Stream(self, stream_id, self._stream_window)
        stream.remote_ended = block.end
        text = wrong_request(block.headers)
        if text:
            self._fail_stream(stream, ErrorCode.PROTOCOL_ERROR, text)
        elif len(self._streams) >= MAX_STREAMS:
            stream.abort(ErrorCode.REFUSED_STREAM)
            self._count_reset()
        elif not stream.hold(memory_of(block.headers)):
            stream.abort(ErrorCode.ENHANCE_YOUR_CALM)
        else:
            self._streams[stream_id] = stream
            self._accept(stream, block)

    def _accept(self, stream: Stream, block: HeaderBlock) -> None:
        assert self.on_stream is not None
        try:
            self.on_stream(stream, block.headers, block.end)
        except Exception:  # a bug of ours must not affect other calls
            logger.exception("a call could not be accepted")
            stream.abort(ErrorCode.INTERNAL_ERROR)

    def _fail_stream(self, stream: Stream, code: ErrorCode, text: str) -> None:
        """Reset a stream after a stream error (RFC 9113, 5.4.2). These count like the peer's own resets.

        Raises:
            ProtocolError: there were too many.
        """
        logger.debug("stream %d: %s", stream.id, text)
        stream.fail(code)
        self._count_reset()

    def _count_reset(self) -> None:
        if not self._is_client and not self._resets.use():
            text = "the peer opens streams only to have them reset"
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, text)

    def on_credit(self, stream_id: int, amount: int) -> None:
        """See `FrameHandler.on_credit`."""
        amount &= MAX_WINDOW
        if stream_id == 0:
            if amount == 0:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
            self.gain_credit(amount)
            self._has_new_credit = True
        elif (stream := self._streams.get(stream_id)) is not None:
            stream.window += amount
            if amount == 0:
                self._fail_stream(stream, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
            elif stream.window > MAX_WINDOW:
                self._fail_stream(stream, ErrorCode.FLOW_CONTROL_ERROR, "too large a window")
            self._has_new_credit = True
        elif self._is_idle(stream_id):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"credit for stream {stream_id}, which is not open")

    def _receive_reset(self, stream_id: int, code: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._end_streams([stream], code)
            self._count_reset()
        elif self._is_idle(stream_id):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"a reset of stream {stream_id}, which is not open")

    def _receive_goaway(self, last_id: int) -> None:
        is_first, self._is_draining = not self._is_draining, True
        if is_first and self.on_goaway is not None:
            self.on_goaway()
        refused = [stream for stream in self._streams.values() if self._is_client and stream.id > last_id]
        pending, self._pending = list(self._pending), deque()
        self._end_streams([*refused, *pending], ErrorCode.REFUSED_STREAM)
        if not self._streams:
            self.close()

    def _receive_settings(self, payload: memoryview) -> None:
        for key, value in parse_settings(bytes(payload)):
            check_setting(key, value, is_of_server=self._is_client)
            match key:
                case Setting.INITIAL_WINDOW_SIZE:
                    self._new_stream_window = value
                case Setting.MAX_FRAME_SIZE:
                    self.frame_size = min(value, MAX_FRAME_SIZE)
                case Setting.MAX_CONCURRENT_STREAMS:
                    self.max_streams = value
                case _:
                    pass
        self._acks += 1
        self.has_settings = True

    def _apply_settings(self) -> None:
        """Apply and acknowledge the SETTINGS of one `receive` at once: a new window changes all streams."""
        if not self._acks:
            return
        if self._new_stream_window is not None:
            change = self._new_stream_window - self._stream_window
            self._stream_window, self._new_stream_window = self._new_stream_window, None
            for stream in self._streams.values() if change else ():
                stream.window += change
                if stream.window > MAX_WINDOW:
                    text = f"too large a window of stream {stream.id}"
                    raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, text)
        self.write(frame_header(0, FrameType.SETTINGS, ACK, 0) * self._acks)
        self._acks = 0
        self._has_new_credit = True
        self._open_pending()
        if self.on_settings is not None:
            self.on_settings()


def _is_interim(block: HeaderBlock) -> bool:
    """Whether the headers are those of an interim response, with a 1xx status (RFC 9110, 15.2)."""
    return any(name == b":status" and value[:1] == b"1" for name, value in block.headers)
