"""The 512-byte header block: its fields, and the encoding of numbers and strings.

Layouts: POSIX.1-1988 (ustar), the GNU tar manual ("Standard"), and star. Unusual encodings are handled as in
Go's ``archive/tar``.
"""

from __future__ import annotations

import re

from exporter.layer.gotar.header import Format, TarError

BLOCK_SIZE = 512
NAME_SIZE = 100
PREFIX_SIZE = 155
ZERO_BLOCK = bytes(BLOCK_SIZE)

MODE = slice(100, 108)
UID = slice(108, 116)
GID = slice(116, 124)
SIZE = slice(124, 136)
MTIME = slice(136, 148)
CHECKSUM = slice(148, 156)
TYPEFLAG = slice(156, 157)
NAME = slice(0, 100)
LINKNAME = slice(157, 257)
MAGIC = slice(257, 263)
VERSION = slice(263, 265)
UNAME = slice(265, 297)
GNAME = slice(297, 329)
DEVMAJOR = slice(329, 337)
DEVMINOR = slice(337, 345)
USTAR_PREFIX = slice(345, 500)
GNU_ATIME = slice(345, 357)
GNU_CTIME = slice(357, 369)
GNU_SPARSE = slice(386, 483)
GNU_REALSIZE = slice(483, 495)
STAR_PREFIX = slice(345, 476)
STAR_ATIME = slice(476, 488)
STAR_CTIME = slice(488, 500)
STAR_TRAILER = slice(508, 512)

_USTAR_MAGIC = b"ustar\x00"
_GNU_MAGIC = b"ustar "
_STAR_TRAILER = b"tar\x00"
_MAX_UINT64 = (1 << 64) - 1
_OCTAL = re.compile(rb"[0-7]+\Z")
_DECIMAL = re.compile(rb"[+-]?[0-9]+\Z")


def padding(size: int) -> int:
    """The number of bytes up to the next block boundary."""
    return -size % BLOCK_SIZE


def is_ascii(text: bytes) -> bool:
    """Whether `text` is ASCII without NUL, which is what ustar fields can hold."""
    return text.isascii() and b"\x00" not in text


def to_ascii(text: bytes) -> bytes:
    """Drop the characters that a ustar field cannot hold."""
    return text if is_ascii(text) else bytes(c for c in text if 0 < c < 0x80)


def parse_decimal(text: bytes) -> int:
    """Read a decimal number of a PAX record.

    Raises:
        TarError: it is not a number, or does not fit into 64 bits.
    """
    if _DECIMAL.match(text):
        number = int(text)
        if -(1 << 63) <= number < 1 << 63:
            return number
    raise TarError(f"{text[:40]!r} is not a 64-bit decimal number")


def parse_string(field: bytes) -> bytes:
    """Read a field up to its first NUL."""
    return field.partition(b"\x00")[0]


def parse_octal(field: bytes) -> int:
    """Read an octal field, ignoring surrounding spaces and NULs; an empty one is 0.

    Raises:
        TarError: it is not an octal number of at most 64 bits.
    """
    digits = parse_string(field.strip(b" \x00"))
    if not digits:
        return 0
    if not _OCTAL.match(digits) or (number := int(digits, 8)) > _MAX_UINT64:
        raise TarError(f"{field!r} is not an octal number")
    return number - (1 << 64) if number >> 63 else number


def parse_numeric(field: bytes) -> int:
    """Read an octal field, or a binary one (GNU's base 256, big-endian two's complement, first bit set).

    Raises:
        TarError: it is neither, or does not fit into 64 bits.
    """
    if not field or not field[0] & 0x80:
        return parse_octal(field)
    negative = bool(field[0] & 0x40)
    first = (field[0] ^ (0xFF if negative else 0)) & 0x7F
    rest = bytes(c ^ 0xFF for c in field[1:]) if negative else field[1:]
    number = int.from_bytes(bytes((first,)) + rest, "big")
    if number >> 63:
        raise TarError(f"{field!r} does not fit into 64 bits")
    return ~number if negative else number


def fits_octal(width: int, number: int) -> bool:
    """Whether `number` can be written in octal with a final NUL."""
    return number >= 0 and (width >= 22 or number < 1 << (width - 1) * 3)


def fits_binary(width: int, number: int) -> bool:
    """Whether `number` can be written in GNU's base 256."""
    bits = (width - 1) * 8
    return width >= 9 or -(1 << bits) <= number < 1 << bits


def format_string(width: int, text: bytes) -> bytes:
    """Encode `text` as a field, truncated to its width if necessary.

    If truncation would leave trailing slashes, they are cut off as well: readers would take the file for a
    directory.
    """
    if len(text) > width and text[width - 1 : width] == b"/":
        end = len(text[: width - 1].rstrip(b"/"))
        return text[:end] + b"\x00" + text[end + 1 : width]
    return text[:width].ljust(width, b"\x00")


def format_octal(width: int, number: int) -> bytes:
    """Encode `number` in octal with leading zeros and a final NUL; 0 if it does not fit."""
    return b"%0*o\x00" % (width - 1, number if fits_octal(width, number) else 0)


def format_numeric(width: int, number: int) -> bytes:
    """Encode `number` in octal if it fits, else in base 256; 0 if it fits neither."""
    if fits_octal(width, number) or not fits_binary(width, number):
        return format_octal(width, number)
    field = bytearray((number & ((1 << width * 8) - 1)).to_bytes(width, "big"))
    field[0] |= 0x80
    return bytes(field)


def checksums(block: bytes) -> tuple[int, int]:
    """The sums of the unsigned and of the signed bytes; the checksum field counts as spaces."""
    others = block[: CHECKSUM.start] + block[CHECKSUM.stop :]
    unsigned = sum(others) + 8 * 0x20
    high = len(others) - len(others.translate(None, _HIGH_BYTES))
    return unsigned, unsigned - 256 * high


_HIGH_BYTES = bytes(range(0x80, 0x100))


def block_format(block: bytes) -> int:
    """Guess the format by the magic values; `Format.UNKNOWN` if the checksum is wrong."""
    try:
        checksum = parse_octal(block[CHECKSUM])
    except TarError:
        return Format.UNKNOWN
    if checksum not in checksums(block):
        return Format.UNKNOWN
    magic = block[MAGIC]
    if magic == _USTAR_MAGIC:
        return Format.STAR if block[STAR_TRAILER] == _STAR_TRAILER else Format.USTAR | Format.PAX
    if magic == _GNU_MAGIC and block[VERSION] == b" \x00":
        return Format.GNU
    return Format.V7


def seal(block: bytearray, format_: int) -> None:
    """Write the magic values of `format_` and the checksum."""
    if format_ & Format.GNU:
        block[MAGIC], block[VERSION] = _GNU_MAGIC, b" \x00"
    else:
        block[MAGIC], block[VERSION] = _USTAR_MAGIC, b"00"
    block[CHECKSUM] = format_octal(7, checksums(bytes(block))[0]) + b" "
