"""A connection inside a stream: how BuildKit's sessions travel (upstream: ``session/grpchijack``).

The stream's gRPC messages are ``BytesMessage``s, whose bytes one after the other are those of the connection.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import cast

from google.protobuf.message import DecodeError

from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.frames import ErrorCode, ProtocolError, varint
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.sending import Schedule
from exporter.rpc.http2.stream import Stream

MESSAGE_BYTES = 64 << 10
"""Bytes of the connection in the largest message that is sent; BuildKit's own are of half that size."""

MAX_MESSAGE_BYTES = 16 << 20
"""Largest message that is taken."""

_HIGH_WATER = 1 << 20
_LOW_WATER = 256 << 10
"""Bytes waiting to go out at which the connection inside is paused and resumed."""

_PREFIX = struct.Struct(">BL")
_DATA_TAG = 0x0A


def frame_bytes(pieces: list[bytes | memoryview]) -> bytes:
    """Put bytes into messages."""
    size = sum(map(len, pieces))
    if size > MESSAGE_BYTES:
        data = memoryview(b"".join(pieces))
        messages = (data[start : start + MESSAGE_BYTES] for start in range(0, size, MESSAGE_BYTES))
        return b"".join(frame_bytes([message]) for message in messages)
    field = bytes([_DATA_TAG]) + varint(size)
    return b"".join((_PREFIX.pack(0, len(field) + size), field, *pieces))


class Deframer:
    """Takes bytes out of messages.

    Bytes are passed on as they come, without waiting for the end of their message.
    """

    def __init__(self) -> None:
        self._left = 0  # bytes of the message's field that are still to come
        self._rest = b""

    def feed(self, data: bytes | memoryview) -> list[bytes | memoryview]:
        """Take a piece of the stream and return the bytes in it.

        Raises:
            ProtocolError: it is not a message that can be read.
        """
        if len(data) <= self._left:
            self._left -= len(data)
            return [data]
        found: list[bytes | memoryview] = []
        view = memoryview(self._rest + bytes(data)) if self._rest else memoryview(data)
        self._rest = b""
        while view:
            if self._left:
                piece = view[: self._left]
                found.append(piece)
                self._left -= len(piece)
                view = view[len(piece) :]
                continue
            used = self._begin(view, found)
            if not used:
                self._rest = bytes(view)
                break
            view = view[used:]
        return found

    def _begin(self, view: memoryview, found: list[bytes | memoryview]) -> int:
        """Read the beginning of a message; returns its length, 0 if it has not come as a whole."""
        if len(view) < _PREFIX.size:
            return 0
        is_compressed, length = cast(tuple[int, int], _PREFIX.unpack_from(view))
        if is_compressed or length > MAX_MESSAGE_BYTES:
            raise ProtocolError(
                ErrorCode.PROTOCOL_ERROR, "a message of a session is compressed, or too large"
            )
        body = view[_PREFIX.size : _PREFIX.size + length]
        header = _field_header(body)
        if header is not None and header[0] + header[1] == length:
            self._left = header[1]
            return _PREFIX.size + header[0]
        if len(body) < length:
            # Either the field's header is cut off, or there is something else in the message.
            return 0
        try:
            found.append(control_pb2.BytesMessage.FromString(bytes(body)).data)
        except DecodeError as error:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"a message of a session: {error}") from error
        return _PREFIX.size + length


def _field_header(body: memoryview) -> tuple[int, int] | None:
    """Lengths of the header and the content of the field, if a message begins with it."""
    if len(body) < 2 or body[0] != _DATA_TAG:
        return None
    value = 0
    for position in range(1, min(len(body), 6)):
        value |= (body[position] & 0x7F) << 7 * (position - 1)
        if body[position] < 0x80:
            return position + 1, value
    return None


class Tunnel:
    """One end of a connection inside a stream; handles the stream.

    Args:
        stream: The stream.
        schedule: Has what has come in one turn of the event loop passed on at once.
        on_headers: Is given the headers and trailers of the stream.
        on_end: Told that the peer has ended its direction, or with a code the whole stream.
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
        self._held_credit = 0
        self._is_paused = False
        stream.handler = self

    def connect(self, connection: Connection) -> None:
        """Set the connection. It gets what has come already: a peer's settings can be ahead of the answer."""
        self.connection = connection
        self._stream.give_credit(self._held_credit)
        self._schedule(self._feed)

    def write(self, pieces: list[bytes | memoryview]) -> None:
        """See `Transport.write`."""
        self._stream.send_data(frame_bytes(pieces))
        if not self._is_paused and self._stream.queued > _HIGH_WATER and self.connection is not None:
            self._is_paused = True
            self.connection.pause()

    def close(self) -> None:
        """See `Transport.close`. The stream is ended by whoever has both of them."""

    def on_headers(self, headers: Headers, *, end: bool) -> None:
        """See `StreamHandler.on_headers`."""
        self._on_headers(headers, end)
        if end:
            self._on_end(None)

    def on_data(self, pieces: Sequence[bytes | memoryview], credit: int, *, end: bool) -> None:
        """See `StreamHandler.on_data`."""
        if self.connection is None:
            self._held_credit += credit
        else:  # it has windows of its own
            self._stream.give_credit(credit)
        if not self._incoming:
            self._schedule(self._feed)
        try:
            for data in pieces:
                self._incoming += self._deframer.feed(data)
        except ProtocolError as error:
            self._fail(error)
        if end:
            self._feed()
            self._on_end(None)

    def _feed(self) -> None:
        if self.connection is not None and self._incoming:
            pieces, self._incoming = self._incoming, []
            self.connection.receive(*pieces)

    def _fail(self, error: ProtocolError) -> None:
        if self.connection is not None:
            self.connection.close(error)

    def on_reset(self, code: int) -> None:
        """See `StreamHandler.on_reset`."""
        self._on_end(code)

    def on_progress(self) -> None:
        """See `StreamHandler.on_progress`."""
        if self._is_paused and self._stream.queued <= _LOW_WATER and self.connection is not None:
            self._is_paused = False
            self.connection.resume()
