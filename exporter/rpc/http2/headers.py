"""Header blocks (RFC 7541).

All headers that are sent are literals. Tables of headers sent before, and Huffman codes, save bytes, which
cost next to nothing here; keeping them takes a large part of the time of a short call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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

CLIENT_HEADER_BYTES = 1 << 20
"""Largest headers that clients of the proxy may send: their methods, and a few values. Decompressing a MiB
can take 0.2 s, in which nothing else is done."""

MAX_FIELDS = 4096
"""Most headers in one block. One byte is enough for a header, and Python needs 150 for it."""

FIELD_BYTES = 160
"""What a header takes in memory beside its name and value, which can be shared."""

_PIECE_BYTES = 4096
"""About what is decoded at once. The decoder copies all that is left of its input for each literal, and so
needs quadratic time for long blocks of short headers."""

_MAX_INTEGER_BYTES = 6

_SPARE_FRAMES = 64
_SMALL_FRAME = 512
"""A block may come in so many frames, and in one more for each so many bytes."""

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


def memory_of(headers: Headers) -> int:
    """About the bytes that headers take in memory."""
    return sum(len(name) + len(value) for name, value in headers) + FIELD_BYTES * len(headers)


class BlockReader:
    """Reads the header blocks of a connection, each of which is in one frame or in several.

    Whatever is wrong with a block ends the connection: the state of the compression is lost.

    Args:
        max_bytes: Largest headers that are taken.
    """

    def __init__(self, max_bytes: int = MAX_HEADER_BYTES) -> None:
        self._max_bytes = max_bytes
        self._decoder = hpack.Decoder(max_bytes)
        self._open: tuple[int, int, bytearray] | None = None
        self._frames = 0

    @property
    def is_open(self) -> bool:
        """Whether a block has begun and not ended: its next frame must be the next of the connection."""
        return self._open is not None

    @property
    def held(self) -> int:
        """Bytes of the block that has begun and not ended."""
        return 0 if self._open is None else len(self._open[2])

    def begin(self, stream_id: int, flags: int, payload: memoryview) -> HeaderBlock | None:
        """Take a frame of HEADERS; returns the block if that is all of it.

        Raises:
            ProtocolError: it cannot be read.
        """
        block = strip_padding(payload, flags)
        if flags & PRIORITY:
            if len(block) < _PRIORITY_BYTES:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without their priority")
            block = block[_PRIORITY_BYTES:]
        if flags & END_HEADERS:
            return self._finish(stream_id, flags, bytes(block))
        self._open = (stream_id, flags, bytearray(block))
        self._frames = 0
        return None

    def proceed(self, stream_id: int, flags: int, payload: memoryview) -> HeaderBlock | None:
        """Take a frame of CONTINUATION; returns the block if it was the last one.

        Raises:
            ProtocolError: it cannot be read, it is too large, or there was no frame before it.
        """
        if self._open is None or self._open[0] != stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        _, first_flags, block = self._open
        block += payload
        self._frames += 1
        if len(block) > self._max_bytes or self._frames > _SPARE_FRAMES + len(block) // _SMALL_FRAME:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "headers are too large, or in too many frames")
        if not flags & END_HEADERS:
            return None
        self._open = None
        return self._finish(stream_id, first_flags, bytes(block))

    def _finish(self, stream_id: int, flags: int, block: bytes) -> HeaderBlock:
        # Tuples of a type that tells which headers must not be indexed.
        headers: Headers = []
        size = 0
        try:
            for piece in (block,) if len(block) <= _PIECE_BYTES else _pieces(block):
                self._decoder.max_header_list_size = self._max_bytes - size
                found = list(self._decoder.decode(piece, raw=True))
                if len(block) > _PIECE_BYTES:
                    size += sum(len(name) + len(value) + _ENTRY_BYTES for name, value in found)
                headers += found
        except hpack.OversizedHeaderListError as error:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "headers are too large") from error
        except hpack.HPACKError as error:
            raise ProtocolError(ErrorCode.COMPRESSION_ERROR, "headers cannot be decompressed") from error
        if len(headers) > MAX_FIELDS:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "there are too many headers in one block")
        return HeaderBlock(stream_id, headers, bool(flags & END_STREAM))


_ENTRY_BYTES = 32
"""What RFC 7541, 4.1, adds to the size of a header."""

_INDEXED, _INDEXING, _RESIZING = 0x80, 0x40, 0x20
"""First bits of a header that is in the table, of one that is to be, and of a new size of the table."""


def _pieces(block: bytes) -> Iterator[bytes]:
    """Cut a block between headers.

    Raises:
        ProtocolError: it has too many headers, or cannot be read.
    """
    start = position = count = 0
    while position < len(block):
        if _INDEXED > block[position] >= _RESIZING and not block[position] & _INDEXING and count:
            raise _cut_off()
        end = _end_of_field(block, position)
        count += 1
        if count > MAX_FIELDS:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "there are too many headers in one block")
        if end - start > _PIECE_BYTES and position > start:
            yield block[start:position]
            start = position
        position = end
    if position > len(block):
        raise _cut_off()
    yield block[start:]


def _end_of_field(block: bytes, position: int) -> int:
    first = block[position]
    if first & _INDEXED:
        return _integer(block, position, 0x7F)[1]
    if first & _INDEXING:
        index, position = _integer(block, position, 0x3F)
    elif first & _RESIZING:
        return _integer(block, position, 0x1F)[1]
    else:
        index, position = _integer(block, position, 0x0F)
    for _ in range(1 if index else 2):
        length, position = _integer(block, position, 0x7F)
        position += length
    return position


def _integer(block: bytes, position: int, mask: int) -> tuple[int, int]:
    """Read a number (RFC 7541, 5.1); returns where it ends, too."""
    if position >= len(block):
        raise _cut_off()
    value = block[position] & mask
    position += 1
    if value < mask:
        return value, position
    for place, byte in enumerate(block[position : position + _MAX_INTEGER_BYTES]):
        value += (byte & 0x7F) << 7 * place
        if byte <= _ONE_BYTE:
            return value, position + place + 1
    raise _cut_off()


def _cut_off() -> ProtocolError:
    return ProtocolError(ErrorCode.COMPRESSION_ERROR, "headers cannot be decompressed")
