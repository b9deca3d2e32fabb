"""A tar entry's header as Go sees it, and the types its fields have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from exporter.errors import InvalidArgumentError

_UNIX_TO_GO = 62135596800
"""Seconds from Go's zero time (year 1) to the Unix epoch."""


class TarError(InvalidArgumentError):
    """A tar archive is malformed, or no tar format can represent a header."""


class Format:
    """A bit set of tar formats. `UNKNOWN` means that the reader is not sure, or the writer may choose."""

    UNKNOWN = 0
    V7 = 1
    USTAR = 2
    PAX = 4
    GNU = 8
    STAR = 16


class TypeFlag:
    """Kinds of entries (POSIX, plus GNU's ``S L K`` and the old NUL)."""

    REG = b"0"
    REG_OLD = b"\x00"
    LINK = b"1"
    SYMLINK = b"2"
    CHAR = b"3"
    BLOCK = b"4"
    DIR = b"5"
    FIFO = b"6"
    X_HEADER = b"x"
    X_GLOBAL_HEADER = b"g"
    GNU_SPARSE = b"S"
    GNU_LONG_NAME = b"L"
    GNU_LONG_LINK = b"K"


_HEADER_ONLY = frozenset(
    {TypeFlag.LINK, TypeFlag.SYMLINK, TypeFlag.CHAR, TypeFlag.BLOCK, TypeFlag.DIR, TypeFlag.FIFO}
)


def is_header_only(typeflag: bytes) -> bool:
    """Whether an entry of this kind has no data, whatever its size field says."""
    return typeflag in _HEADER_ONLY


class TarTime(NamedTuple):
    """A point in time: Unix seconds and nanoseconds (0 to 999 999 999)."""

    seconds: int
    nanoseconds: int = 0

    @property
    def is_zero(self) -> bool:
        """Whether this is Go's zero time, which stands for "none"."""
        return self.seconds == -_UNIX_TO_GO and not self.nanoseconds

    def after(self, other: TarTime) -> bool:
        """Compare as Go's ``time.After`` does, 64-bit overflow included."""
        return (_wrap(self.seconds + _UNIX_TO_GO), self.nanoseconds) > (
            _wrap(other.seconds + _UNIX_TO_GO),
            other.nanoseconds,
        )

    def rounded(self) -> TarTime:
        """Round to whole seconds, halves up."""
        return TarTime(_wrap(self.seconds + (self.nanoseconds >= 500_000_000)))


ZERO_TIME = TarTime(-_UNIX_TO_GO)
"""Go's zero time: no time given."""


def _wrap(number: int) -> int:
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


@dataclass(slots=True)
class Header:
    """An entry's header.

    Attributes:
        size: Bytes of (logical) content.
        access_time: `ZERO_TIME` if none; likewise `change_time`.
        xattrs: The PAX records ``SCHILY.xattr.*`` with a non-empty value.
        pax_records: All PAX records of the entry, including those that also set another field.
        format: A `Format`.
    """

    name: bytes = b""
    typeflag: bytes = TypeFlag.REG
    linkname: bytes = b""
    size: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    uname: bytes = b""
    gname: bytes = b""
    mod_time: TarTime = ZERO_TIME
    access_time: TarTime = ZERO_TIME
    change_time: TarTime = ZERO_TIME
    devmajor: int = 0
    devminor: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    pax_records: dict[bytes, bytes] = field(default_factory=dict)
    format: int = Format.UNKNOWN
