"""A connection tunnelled in a stream, as in BuildKit's sessions (upstream: ``session/grpchijack``).

The stream's gRPC messages are of type ``BytesMessage``. Their data, concatenated, is the connection's byte
stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.frames import ErrorCode, ProtocolError, varint
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.messages import PREFIX_BYTES, MessageError, message_prefix, parse_prefix
from exporter.rpc.http2.sending import Schedule
from exporter.rpc.http2.stream import Stream
from exporter.rpc.http2.water import HighWater

MESSAGE_BYTES = 64 << 10
"""The maximum data of a message that we send in bytes, twice BuildKit's."""

MAX_MESSAGE_BYTES = 16 << 20
"""The size limit for received messages in bytes."""

_DATA_FIELD, _BYTES_TYPE = 1, 2
_DATA_TAG = _DATA_FIELD << 3 | _BYTES_TYPE
_FIXED_SIZES = {1: 8, 5: 4}
_VARINT_TYPE = 0
_MAX_VARINT_BYTES = 10


def frame_bytes(pieces: list[bytes | memoryview]) -> bytes:
    """Serialize bytes as messages."""
    size = sum(map(len, pieces))
    if size > MESSAGE_BYTES:
        data = memoryview(b"".join(pieces))
        messages = (data[start : start + MESSAGE_BYTES] for start in range(0, size, MESSAGE_BYTES))
        return b"".join(frame_bytes([message]) for message in messages)
    field = bytes([_DATA_TAG]) + varint(size)
    return b"".join((message_prefix(len(field) + size), field, *pieces))


class Deframer:
    """Extracts the data of messages.

    Data is returned as it arrives, before its message is complete. Only an incomplete prefix or field header
    is buffered. Unknown fields are skipped, for compatibility with later versions.
    """

    def __init__(self) -> None:
        self._left = 0  # bytes missing from the current field
        self._message = 0  # bytes missing from the current message, including those
        self._is_data = False  # whether the current field is the data
        self._has_data = False  # whether the current message has had its data
        self._rest = b""

    def feed(self, data: bytes | memoryview) -> list[bytes | memoryview]:
        """Process the next bytes of the stream and return the data in them.

        Raises:
            ProtocolError: a message is malformed or too large.
        """
        if len(data) <= self._left and self._is_data:
            self._left -= len(data)
            self._message -= len(data)
            return [data]
        found: list[bytes | memoryview] = []
        view = memoryview(self._rest + bytes(data)) if self._rest else memoryview(data)
        self._rest = b""
        while view:
            if self._left:
                piece = view[: self._left]
                if self._is_data:
                    found.append(piece)
                used = len(piece)
                self._left -= used
            else:
                used = self._begin_field(view) if self._message else self._begin_message(view)
            if not used:
                self._rest = bytes(view)
                break
            if self._message:
                self._message -= used
            view = view[used:]
        return found

    def _begin_message(self, view: memoryview) -> int:
        """Parse a message's prefix. Returns the prefix's length, or 0 if it is incomplete."""
        if len(view) < PREFIX_BYTES:
            return 0
        try:
            length = parse_prefix(view, 0, MAX_MESSAGE_BYTES)
        except MessageError as error:
            raise _unreadable(str(error)) from error
        self._has_data = False
        self._message = length + PREFIX_BYTES if length else 0
        return PREFIX_BYTES

    def _begin_field(self, view: memoryview) -> int:
        """Parse a field's tag and length, or a varint field. Returns the bytes used, or 0 if incomplete."""
        view = view[: self._message]
        is_whole = len(view) == self._message
        tag, used = _varint(view, 0, is_whole)
        if not used:
            return 0
        kind = tag & 7
        if kind == _VARINT_TYPE:
            return _varint(view, used, is_whole)[1]
        length = _FIXED_SIZES.get(kind, 0)
        if kind == _BYTES_TYPE:
            length, used = _varint(view, used, is_whole)
            if not used:
                return 0
        elif not length:
            raise _unreadable(f"a field of type {kind}")
        if used + length > self._message:
            raise _unreadable("a field is longer than its message")
        self._is_data = tag == _DATA_TAG
        if self._is_data and self._has_data:
            raise _unreadable("two fields with bytes in one message")
        self._has_data = self._has_data or self._is_data
        self._left = length
        return used


def _varint(view: memoryview, position: int, is_whole: bool) -> tuple[int, int]:
    """Parse a varint. Returns it and the position after it, or zeros if it is incomplete.

    Raises:
        ProtocolError: it is too long, or its message ends before it does.
    """
    value = 0
    for place, byte in enumerate(view[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, position + place + 1
    if is_whole or len(view) - position >= _MAX_VARINT_BYTES:
        raise _unreadable("a number without an end")
    return 0, 0


def _unreadable(text: str) -> ProtocolError:
    return ProtocolError(ErrorCode.PROTOCOL_ERROR, f"a message of a session cannot be read: {text}")


class Tunnel:
    """The transport of a tunnelled connection, and the handler of its stream.

    Args:
        stream: The stream.
        schedule: Called to pass on the data of one turn of the event loop together.
        on_headers: Called with the headers and trailers of the stream, and whether they have END_STREAM.
        on_end: Called with None when the peer has half-closed the stream, or with the error code of a reset.
    """

    def __init__(
        self,
        stream: Stream,
        schedule: Schedule,
        on_headers: Callable[[Headers, bool], None],
        on_end: Callable[[int | None], None],
    ) -> None:
        self.connection: Connection | None = None
        self._stream = stream
        self._on_headers = on_headers
        self._on_end = on_end
        self._deframer = Deframer()
        self._schedule = schedule
        self._incoming: list[bytes | memoryview] = []
        self._early = bytearray()  # data received before `connect`
        self._held_credit = 0
        self._has_failed = False
        self._water = HighWater(self._pause, self._resume)
        stream.handler = self

    def connect(self, connection: Connection) -> None:
        """Set the connection, and pass it the data received so far: a peer may send SETTINGS early."""
        self.connection = connection
        credit, self._held_credit = self._held_credit, 0
        self._stream.give_credit(credit)
        self._incoming.append(bytes(self._early))
        self._early.clear()
        self._schedule(self._feed)

    def write(self, pieces: list[bytes | memoryview]) -> None:
        """See `Transport.write`."""
        self._stream.send_data(frame_bytes(pieces))
        self._water.note(self._stream.queued)

    def _pause(self) -> None:
        if self.connection is not None:
            self.connection.pause()

    def _resume(self) -> None:
        if self.connection is not None:
            self.connection.resume()

    def close(self) -> None:
        """See `Transport.close`. Does nothing: the owner of the tunnel ends the stream."""

    def on_headers(self, headers: Headers, *, end: bool) -> None:
        """See `StreamHandler.on_headers`."""
        self._on_headers(headers, end)
        if end:
            self._on_end(None)

    def on_data(self, pieces: Sequence[bytes | memoryview], credit: int, *, end: bool) -> None:
        """See `StreamHandler.on_data`."""
        try:
            for data in pieces if not self._has_failed else ():
                self._take(self._deframer.feed(data))
        except ProtocolError as error:
            self._fail(error)
        if self.connection is None and not self._has_failed:
            self._held_credit += credit
        else:  # the tunnelled connection has its own windows
            self._stream.give_credit(credit)
        if end:
            self._feed()
            self._on_end(None)

    def _take(self, found: list[bytes | memoryview]) -> None:
        if self.connection is None:
            for piece in found:
                self._early += piece  # a slice would keep the whole receive buffer alive
            return
        if found and not self._incoming:
            self._schedule(self._feed)
        self._incoming += found

    def _feed(self) -> None:
        if self.connection is not None and self._incoming:
            pieces, self._incoming = self._incoming, []
            self.connection.receive(*pieces)

    def _fail(self, error: ProtocolError) -> None:
        self._has_failed = True
        self._early.clear()
        if self.connection is not None:
            self.connection.close(error)
        else:
            self._stream.abort(error.code)
            self._on_end(error.code)

    def on_reset(self, code: int) -> None:
        """See `StreamHandler.on_reset`."""
        self._on_end(code)

    def on_progress(self) -> None:
        """See `StreamHandler.on_progress`."""
        self._water.note(self._stream.queued)
