"""Encoding and decoding header blocks (HPACK, RFC 7541).

The encoder writes only literals. The dynamic table and Huffman codes would save bytes, which are cheap here,
but would take a large part of the time of a short call.
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
"""The default size limit for headers in bytes. Large ones are metadata of exports and build errors with
sources."""

CLIENT_HEADER_BYTES = 1 << 20
"""The size limit for headers of the proxy's clients, which send a method and a few values. Decompressing
1 MiB can block the event loop for 0.2 s."""

MAX_FIELDS = 4096
"""The maximum number of fields in a header block. An indexed field is one byte on the wire, but about 150
bytes in Python."""

FIELD_BYTES = 160
"""The memory overhead of a field in bytes, besides its name and value, which may be shared."""

_PIECE_BYTES = 4096
"""The approximate number of bytes decoded at once. The decoder copies the rest of its input for each
literal, which takes quadratic time for long blocks with short fields."""

_MAX_INTEGER_BYTES = 6

_SPARE_FRAMES = 64
_SMALL_FRAME = 512
"""A block may have `_SPARE_FRAMES` CONTINUATION frames, and one more per `_SMALL_FRAME` bytes. Without a
limit, a peer could send empty ones forever."""

NO_TABLE = b"\x20"
"""The beginning of a connection's first block: sets the size of the dynamic table to 0 (RFC 7541, 6.3)."""

_LITERAL, _SECRET = b"\x00", b"\x10"
_ONE_BYTE = 0x7F
_PRIORITY_BYTES = 5


def encode_headers(headers: Iterable[Header]) -> bytes:
    """Encode headers. Those that were received as never indexed (RFC 7541, 6.2.3) are sent as such."""
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
    """Received headers or trailers.

    Attributes:
        stream_id: The ID of their stream.
        headers: The names and values, in order.
        end: Whether the frame has END_STREAM.
    """

    stream_id: int
    headers: Headers
    end: bool


def memory_of(headers: Headers) -> int:
    """The approximate number of bytes that headers take in memory."""
    return sum(len(name) + len(value) for name, value in headers) + FIELD_BYTES * len(headers)


class BlockReader:
    """Reads the header blocks of a connection, each from one or more frames.

    Any error in a block ends the connection, because it loses the state of the compression (RFC 9113, 4.3).

    Args:
        max_bytes: The size limit for headers.

    Attributes:
        begun: How many incomplete blocks there were so far.
    """

    def __init__(self, max_bytes: int = MAX_HEADER_BYTES) -> None:
        self._max_bytes = max_bytes
        self._decoder = hpack.Decoder(max_bytes)
        self._open: tuple[int, int, bytearray] | None = None
        self._frames = 0
        self.begun = 0

    @property
    def is_open(self) -> bool:
        """Whether a block is incomplete. Then the next frame must be its CONTINUATION (RFC 9113, 6.10)."""
        return self._open is not None

    @property
    def held(self) -> int:
        """The buffered bytes of an incomplete block."""
        return 0 if self._open is None else len(self._open[2])

    def begin(self, stream_id: int, flags: int, payload: memoryview) -> HeaderBlock | None:
        """Process a HEADERS frame; return the block if the frame completes it.

        Raises:
            ProtocolError: the block is malformed or too large.
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
        self.begun += 1
        return None

    def proceed(self, stream_id: int, flags: int, payload: memoryview) -> HeaderBlock | None:
        """Process a CONTINUATION frame; return the block if the frame completes it.

        Raises:
            ProtocolError: the block is malformed or too large, or no HEADERS frame came before.
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
        # hpack's tuples, which know whether a header is never indexed.
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
"""The overhead that RFC 7541, 4.1, adds to the size of a field."""

_INDEXED, _INDEXING, _RESIZING = 0x80, 0x40, 0x20
"""The first bits of an indexed field, a literal to be indexed, and a size update (RFC 7541, 6)."""


def _pieces(block: bytes) -> Iterator[bytes]:
    """Split a block between fields.

    Raises:
        ProtocolError: the block has too many fields, or is malformed.
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
    """Parse an integer (RFC 7541, 5.1); return it and the position after it."""
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
