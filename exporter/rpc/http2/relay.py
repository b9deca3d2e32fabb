"""Relaying a stream from one connection to another, in both directions."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.frames import ProtocolError
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.stream import Stream


class _Half:
    """Forwards one stream to the other. The sender gets its credit back when the data has been sent on."""

    __slots__ = ("_other", "_own")

    def __init__(self, own: Stream, other: Stream) -> None:
        self._own = own
        self._other = other

    def on_headers(self, headers: Headers, *, end: bool) -> None:
        self._other.send_headers(headers, end=end)

    def on_data(self, pieces: Sequence[bytes | memoryview], credit: int, *, end: bool) -> None:
        self._other.send_pieces(pieces, credit, self._own.give_credit, end=end)

    def on_reset(self, code: int) -> None:
        self._other.reset(code)

    def on_progress(self) -> None:
        pass


def relay(stream: Stream, headers: Headers, to: Connection, *, end: bool) -> None:
    """Relay a stream to another connection; see `pair`."""
    pair(stream, headers, to, end=end)


def pair(stream: Stream, headers: Headers, to: Connection, *, end: bool) -> Stream | None:
    """Relay a stream that a peer has just opened to another connection.

    Args:
        stream: The stream.
        headers: The headers for the new stream.
        to: The connection to open it on.
        end: Whether the peer has ended its side of `stream`.

    Returns:
        The new stream; None if it could not be opened. Then `stream` has been reset.
    """
    try:
        other = to.open_stream(headers, end=end)
    except ProtocolError as error:
        stream.reset(error.code)
        return None
    stream.release(stream.held)  # its headers have been forwarded
    stream.handler = _Half(stream, other)
    other.handler = _Half(other, stream)
    return other
