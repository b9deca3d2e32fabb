"""PAX extended header records, lines of ``LENGTH KEY=VALUE`` (POSIX.1-2001, "pax Extended Header")."""

from __future__ import annotations

import re
from collections.abc import Mapping

from exporter.layer.gotar.block import parse_decimal
from exporter.layer.gotar.header import Header, TarError, TarTime
from exporter.layer.gotar.sparse import MAP, NUMBYTES, OFFSET

PATH = b"path"
LINKPATH = b"linkpath"
SIZE = b"size"
UID = b"uid"
GID = b"gid"
UNAME = b"uname"
GNAME = b"gname"
MTIME = b"mtime"
ATIME = b"atime"
CTIME = b"ctime"
BASIC_KEYS = frozenset({PATH, LINKPATH, SIZE, UID, GID, UNAME, GNAME, MTIME, ATIME, CTIME})
XATTR_PREFIX = b"SCHILY.xattr."
SPARSE_PREFIX = b"GNU.sparse."

_TEXT_KEYS = frozenset({PATH, LINKPATH, UNAME, GNAME})
_LENGTH = re.compile(rb"[+-]?[0-9]+\Z")
_DIGITS = re.compile(rb"[0-9]*\Z")
_MIN_RECORD = 5


def is_valid_record(key: bytes, value: bytes) -> bool:
    """Whether Go accepts such a record, in reading and writing."""
    if not key or b"=" in key:
        return False
    return b"\x00" not in (value if key in _TEXT_KEYS else key)


def parse_records(data: bytes) -> dict[bytes, bytes]:
    """Read an extended header. Of duplicate keys, the last one wins.

    The repeated keys of GNU's sparse format 0.0 are combined into the single record of format 0.1.

    Raises:
        TarError: a record is malformed.
    """
    records: dict[bytes, bytes] = {}
    sparse_map: list[bytes] = []
    position = 0
    while position < len(data):
        key, value, position = _parse_record(data, position)
        if key in {OFFSET, NUMBYTES}:
            if key != (NUMBYTES if len(sparse_map) % 2 else OFFSET) or b"," in value:
                raise TarError("its sparse map's records are out of order")
            sparse_map.append(value)
        else:
            records[key] = value
    if sparse_map:
        records[MAP] = b",".join(sparse_map)
    return records


def format_record(key: bytes, value: bytes) -> bytes:
    """Encode a record. Its length includes the length field."""
    length = len(key) + len(value) + len(b" =\n")
    total = length + len(str(length))
    total = length + len(str(total))
    return b"%d %s=%s\n" % (total, key, value)


def parse_time(text: bytes) -> TarTime:
    """Read seconds with an optional fraction, truncated to nanoseconds.

    Raises:
        TarError: it is not such a number.
    """
    whole, _, fraction = text.partition(b".")
    seconds = parse_decimal(whole)
    if not fraction:
        return TarTime(seconds)
    if not _DIGITS.match(fraction):
        raise TarError(f"{text[:40]!r} is not a time")
    nanoseconds = int(fraction[:9].ljust(9, b"0"))
    if whole.startswith(b"-") and nanoseconds:
        return TarTime(seconds - 1, 1_000_000_000 - nanoseconds)
    return TarTime(seconds, nanoseconds)


def format_time(time: TarTime) -> bytes:
    """Encode a time with as many decimals as necessary."""
    seconds, nanoseconds = time
    if not nanoseconds:
        return b"%d" % seconds
    sign = b""
    if seconds < 0:
        sign = b"-"
        seconds = -(seconds + 1)
        nanoseconds = 1_000_000_000 - nanoseconds
    return (b"%s%d.%09d" % (sign, seconds, nanoseconds)).rstrip(b"0")


def merge_pax(header: Header, records: Mapping[bytes, bytes]) -> None:
    """Override the header's fields with the records. Empty values are ignored.

    Raises:
        TarError: a number or time cannot be read.
    """
    for key, value in records.items():
        if not value:
            continue
        match key:
            case b"path":
                header.name = value
            case b"linkpath":
                header.linkname = value
            case b"uname":
                header.uname = value
            case b"gname":
                header.gname = value
            case b"uid":
                header.uid = parse_decimal(value)
            case b"gid":
                header.gid = parse_decimal(value)
            case b"size":
                header.size = parse_decimal(value)
            case b"mtime":
                header.mod_time = parse_time(value)
            case b"atime":
                header.access_time = parse_time(value)
            case b"ctime":
                header.change_time = parse_time(value)
            case _ if key.startswith(XATTR_PREFIX):
                header.xattrs[key.removeprefix(XATTR_PREFIX)] = value
    header.pax_records = dict(records)


def _parse_record(data: bytes, start: int) -> tuple[bytes, bytes, int]:
    """Read the record at `start`; return key, value and the start of the next one."""
    space = data.find(b" ", start)
    digits = data[start:space]
    if space < 0 or not _LENGTH.match(digits):
        raise TarError(f"its PAX record {data[start : start + 40]!r} has no length")
    end = start + int(digits)
    if end - start < _MIN_RECORD or end > len(data) or end <= space + 1:
        raise TarError(f"its PAX record {data[start : start + 40]!r} has the wrong length")
    key, equals, value = data[space + 1 : end - 1].partition(b"=")
    if data[end - 1 : end] != b"\n" or not equals or not is_valid_record(key, value):
        raise TarError(f"its PAX record {data[start : start + 40]!r} is malformed")
    return key, value, end
