"""Deflate (RFC 1951) block by block, and the frame that gzip (RFC 1952) puts around it.

Of the libraries that deflate outside the interpreter lock, zlib-ng was chosen: it has all levels and takes,
at the default one, about 60 % of zlib's time for 2 % more bytes, which is near what Go does. ISA-L is faster
still but has no levels above 3 and loses 10 %; we inflate with it (`exporter.layer.compression.decompress`).
"""

from __future__ import annotations

import enum
import struct

from zlib_ng import zlib_ng

from exporter.layer.compression.levels import HUFFMAN_ONLY

WINDOW_SIZE = 32 << 10
"""Bytes that a block can refer back to."""
STORED_SIZE = 65535
"""Bytes in a stored block, at most."""

_NO_COMPRESSION = 0
_BEST_SPEED = 1
_BEST_COMPRESSION = 9
_RAW = -15
_MEMORY_LEVEL = 8
_SYNC_MARKER = b"\x00\x00\x00\xff\xff"
_EMPTY_FINAL_BLOCK = b"\x03\x00"


class Ending(enum.Enum):
    """How the bytes of a block end."""

    OPEN = enum.auto()
    """On a byte boundary, more blocks follow."""
    FINAL = enum.auto()
    """The stream ends."""
    FLUSHED_FINAL = enum.auto()
    """The stream ends, after a flush marker."""


def gzip_header(level: int) -> bytes:
    """The header that Go writes: no time, no name, system 255."""
    hint = {_BEST_COMPRESSION: 2, _BEST_SPEED: 4}.get(level, 0)
    return bytes((0x1F, 0x8B, 8, 0, 0, 0, 0, 0, hint, 255))


def gzip_trailer(checksum: int, length: int) -> bytes:
    """The CRC-32 and the length of what was compressed."""
    return struct.pack("<II", checksum, length & 0xFFFFFFFF)


def deflate(dictionary: bytes, block: bytes, level: int, ending: Ending) -> bytes:
    """Compress a part of a stream. Level 0 gives the bytes that Go gives.

    Args:
        dictionary: What came before, up to `WINDOW_SIZE` bytes.
        block: The part.
        level: Go's level, -2 to 9.
        ending: What comes after it.
    """
    if level == _NO_COMPRESSION:
        return _store(block, ending)
    strategy = zlib_ng.Z_HUFFMAN_ONLY if level == HUFFMAN_ONLY else zlib_ng.Z_DEFAULT_STRATEGY
    # zlib-ng's own level 1 gives up a fifth of the size; its level 2 is as fast as Go's 1, and smaller.
    own_level = {HUFFMAN_ONLY: 1, _BEST_SPEED: 2}.get(level, level)
    arguments = (own_level, zlib_ng.DEFLATED, _RAW, _MEMORY_LEVEL, strategy)
    deflater = (
        zlib_ng.compressobj(*arguments, zdict=dictionary) if dictionary else zlib_ng.compressobj(*arguments)
    )
    compressed = deflater.compress(block)
    if ending is not Ending.FINAL:
        compressed += deflater.flush(zlib_ng.Z_SYNC_FLUSH)
    if ending is not Ending.OPEN:
        compressed += deflater.flush(zlib_ng.Z_FINISH)
    return compressed


def _store(block: bytes, ending: Ending) -> bytes:
    parts: list[bytes] = []
    for start in range(0, len(block), STORED_SIZE):
        part = block[start : start + STORED_SIZE]
        parts += (struct.pack("<BHH", 0, len(part), len(part) ^ 0xFFFF), part)
    if ending is Ending.FLUSHED_FINAL:
        parts.append(_SYNC_MARKER)
    if ending is not Ending.OPEN:
        parts.append(_EMPTY_FINAL_BLOCK)
    return b"".join(parts)
