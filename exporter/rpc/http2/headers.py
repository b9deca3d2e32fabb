"""Header blocks (RFC 7541).

All headers that are sent are literals. Tables of headers sent before, and Huffman codes, save bytes, which
cost next to nothing here; keeping them takes a large part of the time of a short call.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import hpack

from exporter.rpc.http2.frames import (
    END_HEADERS,
    END_STREAM,
    PRIORITY,
    ErrorCode,
    ProtocolError,
    strip_padding,
    varint,
)

Header = tuple[bytes, bytes]
Headers = list[Header]

MAX_HEADER_BYTES = 16 << 20
"""Largest headers: metadata of exports, and build errors with their sources."""

NO_TABLE = b"\x20"
"""What the first block of a connection begins with: there is no table, whatever size the peer allows."""

_LITERAL, _SECRET = b"\x00", b"\x10"
_ONE_BYTE = 0x7F
_PRIORITY_BYTES = 5


def encode_headers(headers: Iterable[Header]) -> bytes:
    """Encode headers. Those that were received as never to be indexed are sent as such."""
    out = []
    for header in headers:
        name, value = header
        out += [
            _LITERAL if getattr(header, "indexable", True) else _SECRET,
            _length(len(name)),
            name,
            _length(len(value)),
            value,
        ]
    return b"".join(out)


def _length(value: int) -> bytes:
    return bytes((value,)) if value < _ONE_BYTE else b"\x7f" + varint(value - _ONE_BYTE)


@dataclass(frozen=True, slots=True)
class HeaderBlock:
    """Headers, or trailers, that have come.

    Attributes:
        stream_id: Of the stream that they belong to.
        headers: Names and values, in order.
        end: Whether nothing follows on the stream.
    """

    stream_id: int
    headers: Headers
    end: bool


class BlockReader:
    """Reads the header blocks of a connection, each of which is in one frame or in several."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(MAX_HEADER_BYTES)
        self._open: tuple[int, int, bytearray] | None = None

    @property
    def is_open(self) -> bool:
        """Whether a block has begun and not ended: its next frame must be the next of the connection."""
        return self._open is not None

    def begin(self, stream_id: int, flags: int, payload: memoryview) -> HeaderBlock | None:
        """Take a frame of HEADERS; returns the block if that is all of it.

        Raises:
            ProtocolError: it cannot be read.
        """
        block = strip_padding(payload, flags)
        if flags & PRIORITY:
            block = block[_PRIORITY_BYTES:]
        self._open = (stream_id, flags, bytearray(block))
        return self._finish() if flags & END_HEADERS else None

    def proceed(self, stream_id: int, flags: int, payload: memoryview) -> HeaderBlock | None:
        """Take a frame of CONTINUATION; returns the block if it was the last one.

        Raises:
            ProtocolError: it cannot be read, it is too large, or there was no frame before it.
        """
        if self._open is None or self._open[0] != stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._open[2].extend(payload)
        if len(self._open[2]) > MAX_HEADER_BYTES:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "headers are too large")
        return self._finish() if flags & END_HEADERS else None

    def _finish(self) -> HeaderBlock:
        assert self._open is not None
        stream_id, flags, block = self._open
        self._open = None
        try:
            # Tuples of a type that tells which headers must not be indexed.
            headers: Headers = list(self._decoder.decode(bytes(block), raw=True))
        except hpack.HPACKError as error:
            raise ProtocolError(ErrorCode.COMPRESSION_ERROR, str(error)) from error
        return HeaderBlock(stream_id, headers, bool(flags & END_STREAM))
