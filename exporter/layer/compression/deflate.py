"""Deflate (RFC 1951) block by block, and gzip's header and trailer (RFC 1952).

Of the libraries that compress without holding the interpreter lock, we use zlib-ng: it has all levels, and
its output does not depend on the processor. ISA-L is faster, but its level 3 gives different bytes with
AVX-512, with AVX2 and with neither, so a layer would get another digest on another machine. We use it for
`exporter.layer.compression.decompress`. docs/performance.md has the figures.
"""

from __future__ import annotations

import enum
import struct

from zlib_ng import zlib_ng

from exporter.layer.compression.levels import GZIP_DEFAULT, HUFFMAN_ONLY

WINDOW_SIZE = 32 << 10
"""How many bytes back a block can refer."""
STORED_SIZE = 65535
"""Maximum bytes in a stored block."""

_NO_COMPRESSION = 0
_BEST_SPEED = 1
_BEST_COMPRESSION = 9
# zlib-ng's level 1 makes the output a fifth larger; its level 2 is as fast as Go's 1, and smaller. The
# default is 3: 1.3 times as fast as Go's default, for 2 % more bytes.
_ZLIB_NG_LEVELS = {HUFFMAN_ONLY: 1, GZIP_DEFAULT: 3, _BEST_SPEED: 2}
_RAW = -15
_MEMORY_LEVEL = 8
_SYNC_MARKER = b"\x00\x00\x00\xff\xff"
_EMPTY_FINAL_BLOCK = b"\x03\x00"


class Ending(enum.Enum):
    """How a block ends."""

    OPEN = enum.auto()
    """On a byte boundary; more blocks follow."""
    FINAL = enum.auto()
    """It ends the stream."""
    FLUSHED_FINAL = enum.auto()
    """It ends the stream after a flush marker."""


def gzip_header(level: int) -> bytes:
    """The header that Go writes: no time, no name, system 255."""
    hint = {_BEST_COMPRESSION: 2, _BEST_SPEED: 4}.get(level, 0)
    return bytes((0x1F, 0x8B, 8, 0, 0, 0, 0, 0, hint, 255))


def gzip_trailer(checksum: int, length: int) -> bytes:
    """The CRC-32 and the length of the uncompressed data."""
    return struct.pack("<II", checksum, length & 0xFFFFFFFF)


def deflate(dictionary: bytes, block: bytes, level: int, ending: Ending) -> bytes:
    """Compress a block of a stream. At level 0, the output is the same as Go's.

    Args:
        dictionary: The preceding data, up to `WINDOW_SIZE` bytes.
        block: The block.
        level: Go's level, -2 to 9.
        ending: How the block ends.
    """
    if level == _NO_COMPRESSION:
        return _store(block, ending)
    strategy = zlib_ng.Z_HUFFMAN_ONLY if level == HUFFMAN_ONLY else zlib_ng.Z_DEFAULT_STRATEGY
    own_level = _ZLIB_NG_LEVELS.get(level, level)
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
