"""Writing tar archives as Go's ``tar.Writer`` does.

A header is written in the first of the formats USTAR, PAX and GNU that can represent it and that its
`Header.format` allows. PAX records are sorted by their bytes.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import replace

from exporter.layer.gotar import block as blk
from exporter.layer.gotar import pax
from exporter.layer.gotar.block import BLOCK_SIZE, NAME_SIZE, PREFIX_SIZE, ZERO_BLOCK
from exporter.layer.gotar.header import (
    ZERO_TIME,
    Format,
    Header,
    TarError,
    TarTime,
    TypeFlag,
    is_header_only,
)
from exporter.layer.gotar.sparse import MAX_SPECIAL_SIZE
from exporter.layer.streams import Writable

_LONG_LINK = b"././@LongLink"
_NO_TRAILING_SLASH = frozenset(
    {TypeFlag.REG, TypeFlag.CHAR, TypeFlag.BLOCK, TypeFlag.FIFO, TypeFlag.GNU_SPARSE}
)
_META_TYPES = frozenset({TypeFlag.X_HEADER, TypeFlag.GNU_LONG_NAME, TypeFlag.GNU_LONG_LINK})


class TarWriter:
    """Writes an archive. Call `write_header` and `write` for each entry, and `close` at the end."""

    def __init__(self, sink: Writable) -> None:
        self._sink = sink
        self._data_left = 0
        self._padding = 0

    def write_header(self, header: Header) -> None:
        """Begin an entry.

        Raises:
            TarError: the previous entry lacks content, or no format can hold the header.
        """
        self._end_entry()
        if header.typeflag == TypeFlag.REG_OLD:
            is_directory = header.name.endswith(b"/")
            header = replace(header, typeflag=TypeFlag.DIR if is_directory else TypeFlag.REG)
        if header.format == Format.UNKNOWN:
            rounded = header.mod_time.rounded()
            header = replace(header, mod_time=rounded, access_time=ZERO_TIME, change_time=ZERO_TIME)
        formats, records = _Choice(header).result()
        if formats & Format.USTAR:
            self._write_ustar(header)
        elif formats & Format.PAX:
            self._write_pax(header, records)
        else:
            self._write_gnu(header)

    def write(self, data: bytes) -> None:
        """Append to the entry's content.

        Raises:
            TarError: the content is longer than the header says.
        """
        if len(data) > self._data_left:
            raise TarError(f"{len(data)} bytes for a tar entry that has room for {self._data_left}")
        self._sink.write(data)
        self._data_left -= len(data)

    def close(self) -> None:
        """End the archive with two zero blocks."""
        self._end_entry()
        self._sink.write(ZERO_BLOCK + ZERO_BLOCK)

    def _end_entry(self) -> None:
        if self._data_left:
            raise TarError(f"a tar entry's content is {self._data_left} bytes short")
        if self._padding:
            self._sink.write(bytes(self._padding))
            self._padding = 0

    def _write_ustar(self, header: Header) -> None:
        prefix, name = _split_path(header.name) or (b"", header.name)
        block = _fill(header, name, blk.format_string, blk.format_octal)
        block[blk.USTAR_PREFIX] = blk.format_string(PREFIX_SIZE, prefix)
        self._write_block(block, Format.USTAR, header)

    def _write_pax(self, header: Header, records: dict[bytes, bytes]) -> None:
        is_global = header.typeflag == TypeFlag.X_GLOBAL_HEADER
        if records or is_global:
            data = b"".join(pax.format_record(key, records[key]) for key in sorted(records))
            if len(data) > MAX_SPECIAL_SIZE:
                raise TarError(f"{header.name!r} has {len(data)} bytes of PAX records: too many")
            if is_global:
                self._write_meta(header.name or b"GlobalHead.0.0", data, header.typeflag, Format.PAX)
                return
            folder, name = _split(header.name)
            self._write_meta(_join(folder, b"PaxHeaders.0", name), data, TypeFlag.X_HEADER, Format.PAX)
        block = _fill(header, header.name, _format_ascii, blk.format_octal)
        self._write_block(block, Format.PAX, header)

    def _write_gnu(self, header: Header) -> None:
        if len(header.name) > NAME_SIZE:
            self._write_meta(_LONG_LINK, header.name + b"\x00", TypeFlag.GNU_LONG_NAME, Format.GNU)
        if len(header.linkname) > NAME_SIZE:
            self._write_meta(_LONG_LINK, header.linkname + b"\x00", TypeFlag.GNU_LONG_LINK, Format.GNU)
        block = _fill(header, header.name, blk.format_string, blk.format_numeric)
        for field, time in ((blk.GNU_ATIME, header.access_time), (blk.GNU_CTIME, header.change_time)):
            if not time.is_zero:
                block[field] = blk.format_numeric(field.stop - field.start, time.seconds)
        self._write_block(block, Format.GNU, header)

    def _write_meta(self, name: bytes, data: bytes, typeflag: bytes, format_: int) -> None:
        """Write a pseudo file with metadata for the following entry."""
        block = bytearray(BLOCK_SIZE)
        block[blk.TYPEFLAG] = typeflag
        block[blk.NAME] = blk.format_string(NAME_SIZE, blk.to_ascii(name)[:NAME_SIZE].rstrip(b"/"))
        for field in (blk.MODE, blk.UID, blk.GID, blk.MTIME):
            block[field] = blk.format_octal(field.stop - field.start, 0)
        block[blk.SIZE] = blk.format_octal(12, len(data))
        blk.seal(block, format_)
        self._sink.write(bytes(block) + data + bytes(blk.padding(len(data))))

    def _write_block(self, block: bytearray, format_: int, header: Header) -> None:
        blk.seal(block, format_)
        self._sink.write(bytes(block))
        self._data_left = 0 if is_header_only(header.typeflag) else header.size
        self._padding = blk.padding(self._data_left)


class _Choice:
    """Determines the formats that can represent a header, and the PAX records that it needs."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._formats = Format.USTAR | Format.PAX | Format.GNU
        self._records: dict[bytes, bytes] = {}
        self._needs_pax_times = False
        self._obstacles: list[str] = []

    def result(self) -> tuple[int, dict[bytes, bytes]]:
        header = self._header
        self._check_kind()
        self._check_text("name", header.name, NAME_SIZE, pax.PATH)
        self._check_text("link name", header.linkname, NAME_SIZE, pax.LINKPATH)
        self._check_text("user name", header.uname, 32, pax.UNAME)
        self._check_text("group name", header.gname, 32, pax.GNAME)
        self._check_number("mode", header.mode, 8, None)
        self._check_number("uid", header.uid, 8, pax.UID)
        self._check_number("gid", header.gid, 8, pax.GID)
        self._check_number("size", header.size, 12, pax.SIZE)
        self._check_number("major device number", header.devmajor, 8, None)
        self._check_number("minor device number", header.devminor, 8, None)
        self._check_time("modification time", header.mod_time, pax.MTIME)
        self._check_time("access time", header.access_time, pax.ATIME)
        self._check_time("change time", header.change_time, pax.CTIME)
        self._add_records()
        self._respect_requested_format()
        if not self._formats:
            reasons = "; ".join(self._obstacles) or "its format excludes all others"
            raise TarError(f"no tar format can hold the header of {header.name!r}: {reasons}")
        return self._formats, self._records

    def _rule_out(self, formats: int, reason: str) -> None:
        self._formats &= ~formats
        self._obstacles.append(reason)

    def _check_kind(self) -> None:
        header = self._header
        if header.typeflag in _NO_TRAILING_SLASH and header.name.endswith(b"/"):
            raise TarError(f"the file {header.name!r} has a trailing slash")
        if header.typeflag in _META_TYPES:
            raise TarError(f"{header.name!r} is of kind {header.typeflag!r}, which is not a file")
        if not is_header_only(header.typeflag) and header.size < 0:
            raise TarError(f"{header.name!r} has the size {header.size}")
        if header.typeflag == TypeFlag.X_GLOBAL_HEADER:
            bare = Header(
                name=header.name,
                typeflag=header.typeflag,
                xattrs=header.xattrs,
                pax_records=header.pax_records,
                format=header.format,
            )
            if header != bare:
                raise TarError(f"the global header {header.name!r} has fields other than PAX records")
            self._rule_out(~Format.PAX, "only PAX has global headers")

    def _check_text(self, what: str, text: bytes, width: int, key: bytes) -> None:
        too_long = len(text) > width
        can_be_long = key in {pax.PATH, pax.LINKPATH}
        if b"\x00" in text or (too_long and not can_be_long):
            self._rule_out(Format.GNU, f"GNU cannot hold its {what} {text[:80]!r}")
        if too_long or not blk.is_ascii(text):
            if key != pax.PATH or _split_path(text) is None:
                self._rule_out(Format.USTAR, f"USTAR cannot hold its {what} {text[:80]!r}")
            self._records[key] = text
        if self._header.pax_records.get(key) == text:
            self._records[key] = text

    def _check_number(self, what: str, number: int, width: int, key: bytes | None) -> None:
        text = b"%d" % number
        if not blk.fits_binary(width, number):
            self._rule_out(Format.GNU, f"GNU cannot hold its {what} {number}")
        if not blk.fits_octal(width, number):
            self._rule_out(Format.USTAR, f"USTAR cannot hold its {what} {number}")
            if key is None:
                self._rule_out(Format.PAX, f"PAX cannot hold its {what} {number}")
            else:
                self._records[key] = text
        if key is not None and self._header.pax_records.get(key) == text:
            self._records[key] = text

    def _check_time(self, what: str, time: TarTime, key: bytes) -> None:
        if time.is_zero:
            return
        fits_octal = key == pax.MTIME and blk.fits_octal(12, time.seconds)
        if not blk.fits_binary(12, time.seconds):
            self._rule_out(Format.GNU, f"GNU cannot hold its {what} {time.seconds}")
        if not fits_octal:
            self._rule_out(Format.USTAR, f"USTAR cannot hold its {what} {time.seconds}")
        text = pax.format_time(time)
        if not fits_octal or time.nanoseconds:
            self._needs_pax_times = True
            self._records[key] = text
        if self._header.pax_records.get(key) == text:
            self._records[key] = text

    def _add_records(self) -> None:
        header = self._header
        for key, value in header.xattrs.items():
            self._records[pax.XATTR_PREFIX + key] = value
        is_global = header.typeflag == TypeFlag.X_GLOBAL_HEADER
        for key, value in header.pax_records.items():
            own = key not in pax.BASIC_KEYS and not key.startswith(pax.SPARSE_PREFIX)
            if key not in self._records and (is_global or own):
                self._records[key] = value
        if header.xattrs or header.pax_records:
            self._rule_out(~Format.PAX, "only PAX has records")
        for key, value in self._records.items():
            if not pax.is_valid_record(key, value):
                raise TarError(f"{header.name!r} has the invalid PAX record {key + b'=' + value[:80]!r}")

    def _respect_requested_format(self) -> None:
        wanted = self._header.format
        if wanted == Format.UNKNOWN:
            return
        if wanted & Format.PAX and not self._needs_pax_times:
            wanted |= Format.USTAR
        self._rule_out(~wanted, "it was read in another format")


def _fill(
    header: Header,
    name: bytes,
    format_text: Callable[[int, bytes], bytes],
    format_number: Callable[[int, int], bytes],
) -> bytearray:
    """Fill a block with the fields that all formats share."""
    mtime = 0 if header.mod_time.is_zero else header.mod_time.seconds
    block = bytearray(BLOCK_SIZE)
    block[blk.TYPEFLAG] = header.typeflag
    block[blk.NAME] = format_text(100, name)
    block[blk.LINKNAME] = format_text(100, header.linkname)
    block[blk.MODE] = format_number(8, header.mode)
    block[blk.UID] = format_number(8, header.uid)
    block[blk.GID] = format_number(8, header.gid)
    block[blk.SIZE] = format_number(12, header.size)
    block[blk.MTIME] = format_number(12, mtime)
    block[blk.UNAME] = format_text(32, header.uname)
    block[blk.GNAME] = format_text(32, header.gname)
    block[blk.DEVMAJOR] = format_number(8, header.devmajor)
    block[blk.DEVMINOR] = format_number(8, header.devminor)
    return block


def _format_ascii(width: int, text: bytes) -> bytes:
    return blk.format_string(width, blk.to_ascii(text))


def _split_path(name: bytes) -> tuple[bytes, bytes] | None:
    """Split a long name into ustar's prefix and name; None if it is short or cannot be split."""
    length = len(name)
    if length <= NAME_SIZE or not blk.is_ascii(name):
        return None
    if length > PREFIX_SIZE + 1:
        length = PREFIX_SIZE + 1
    elif name.endswith(b"/"):
        length -= 1
    slash = name.rfind(b"/", 0, length)
    rest = len(name) - slash - 1
    if slash <= 0 or rest > NAME_SIZE or not rest or slash > PREFIX_SIZE:
        return None
    return name[:slash], name[slash + 1 :]


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Split after the last slash."""
    slash = name.rfind(b"/") + 1
    return name[:slash], name[slash:]


def _join(*parts: bytes) -> bytes:
    """Join and clean a path as Go's ``path.Join`` does, which reduces ``//`` at its start to ``/``."""
    joined = posixpath.normpath(b"/".join(part for part in parts if part))
    return joined[1:] if joined.startswith(b"//") else joined
