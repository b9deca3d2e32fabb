"""Reading tar archives as Go's ``tar.Reader`` does: same headers, same formats, same rejections."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.layer.gotar import block as blk
from exporter.layer.gotar.block import BLOCK_SIZE, ZERO_BLOCK
from exporter.layer.gotar.header import (
    ZERO_TIME,
    Format,
    Header,
    TarError,
    TarTime,
    TypeFlag,
    is_header_only,
)
from exporter.layer.gotar.pax import merge_pax, parse_records
from exporter.layer.gotar.sparse import (
    MAX_SPECIAL_SIZE,
    Fragment,
    check_fragments,
    holes_of,
    old_gnu_fragments,
    pax_fragments,
)
from exporter.layer.streams import Readable

_NUMERIC_FIELDS = (blk.SIZE, blk.MODE, blk.UID, blk.GID, blk.MTIME, blk.DEVMAJOR, blk.DEVMINOR)
_SKIP_SIZE = 1 << 20


class TarReader:
    """Iterates over an archive: `next` returns a header, and `read` the content that belongs to it.

    Args:
        source: The archive.
        keep_raw: Keep all bytes that are not content, for `take_raw`.
    """

    def __init__(self, source: Readable, *, keep_raw: bool = False) -> None:
        self._source = source
        self._raw: bytearray | None = bytearray() if keep_raw else None
        self._data_left = 0
        self._padding = 0
        self._holes: Iterator[Fragment] | None = None
        self._hole = Fragment(0, 0)
        self._position = 0
        self.offset = 0
        """Bytes of the archive consumed so far."""

    def next(self) -> Header | None:
        """Go to the next entry and return its header; None at the end of the archive.

        Unread content of the previous entry is skipped. The archive ends with two zero blocks, or with the
        end of its bytes at a block boundary.

        Raises:
            TarError: the archive is malformed. The message includes the offset.
        """
        start = self.offset + self._data_left + self._padding
        try:
            return self._next()
        except _EndOfArchiveError:
            return None
        except TarError as error:
            raise TarError(f"tar entry at byte {start}: {error.message}") from error

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes of the current entry's content; empty at its end. Holes read as NULs.

        Raises:
            TarError: the archive ends too early, or a sparse file's data does not fit its map.
        """
        if self._holes is None:
            return self._read_data(size)
        while self._position >= self._hole.end:
            following = next(self._holes, None)
            if following is None:
                if self._data_left:
                    raise TarError(f"a sparse file has {self._data_left} bytes that its map does not mention")
                return b""
            self._hole = following
        if self._position < self._hole.offset:
            data = self._read_data(min(size, self._hole.offset - self._position))
            if not data:
                raise TarError("a sparse file has less data than its map says")
        else:
            data = bytes(min(size, self._hole.end - self._position))
        self._position += len(data)
        return data

    @property
    def is_sparse(self) -> bool:
        """Whether the current entry has holes, which `read` fills with NULs."""
        return self._holes is not None

    def take_raw(self) -> bytes:
        """All bytes since the last call that were not returned as content: headers and padding."""
        if self._raw is None:
            return b""
        raw = bytes(self._raw)
        self._raw.clear()
        return raw

    def _next(self) -> Header:
        formats = Format.USTAR | Format.PAX | Format.GNU
        records: dict[bytes, bytes] = {}
        long_name = long_link = b""
        while True:
            self._skip_rest()
            block = self._read_header_block()
            header = _unpack(block)
            self._start_data(header)
            formats &= header.format
            match header.typeflag:
                case TypeFlag.X_HEADER:
                    formats &= Format.PAX
                    records = parse_records(self._read_special())
                case TypeFlag.X_GLOBAL_HEADER:
                    formats &= Format.PAX
                    records = parse_records(self._read_special())
                    try:
                        merge_pax(header, records)
                    except TarError:
                        # Go ignores this error. Which of the records it keeps then is random.
                        header.xattrs.clear()
                    return Header(
                        name=header.name,
                        typeflag=header.typeflag,
                        xattrs=header.xattrs,
                        pax_records=header.pax_records,
                        format=formats,
                    )
                case TypeFlag.GNU_LONG_NAME:
                    formats &= Format.GNU
                    long_name = blk.parse_string(self._read_special())
                case TypeFlag.GNU_LONG_LINK:
                    formats &= Format.GNU
                    long_link = blk.parse_string(self._read_special())
                case _:
                    merge_pax(header, records)
                    header.name = long_name or header.name
                    header.linkname = long_link or header.linkname
                    if header.typeflag == TypeFlag.REG_OLD:
                        header.typeflag = TypeFlag.DIR if header.name.endswith(b"/") else TypeFlag.REG
                    self._start_data(header)
                    self._start_sparse(header, block)
                    both = Format.USTAR | Format.PAX
                    header.format = Format.USTAR if formats & both == both else formats
                    return header

    def _start_data(self, header: Header) -> None:
        size = 0 if is_header_only(header.typeflag) else header.size
        if size < 0:
            raise TarError(f"its size {size} is negative")
        self._data_left = size
        self._padding = blk.padding(size)
        self._holes = None

    def _start_sparse(self, header: Header, block: bytes) -> None:
        if header.typeflag == TypeFlag.GNU_SPARSE:
            if blk.block_format(block) != Format.GNU:
                raise TarError("it is a sparse file of an unknown format")
            fragments: list[Fragment] | None = old_gnu_fragments(header, block, self._read_block)
        else:
            fragments = pax_fragments(header, self._read_data_block)
        if fragments is None:
            return
        if is_header_only(header.typeflag):
            raise TarError("it is sparse but not a file")
        check_fragments(fragments, header.size)
        self._holes = holes_of(fragments, header.size)
        self._hole = Fragment(0, 0)
        self._position = 0

    def _skip_rest(self) -> None:
        while self._data_left:
            skipped = self._read_data(min(self._data_left, _SKIP_SIZE))
            if self._raw is not None:
                self._raw += skipped
        padding = self._take(self._padding)
        if len(padding) < self._padding:
            raise _EndOfArchiveError
        self._padding = 0

    def _read_header_block(self) -> bytes:
        block = self._read_block_or_end()
        if block != ZERO_BLOCK:
            return block
        if self._read_block_or_end() != ZERO_BLOCK:
            raise TarError("it is a single zero block in the middle of the archive")
        raise _EndOfArchiveError

    def _read_block_or_end(self) -> bytes:
        block = self._take(BLOCK_SIZE)
        if not block:
            raise _EndOfArchiveError
        if len(block) < BLOCK_SIZE:
            raise TarError("the archive ends within a block")
        return block

    def _read_block(self) -> bytes:
        block = self._take(BLOCK_SIZE)
        if len(block) < BLOCK_SIZE:
            raise TarError("the archive ends within a block")
        return block

    def _read_data_block(self) -> bytes:
        block = b""
        while len(block) < BLOCK_SIZE:
            data = self._read_data(BLOCK_SIZE - len(block))
            if not data:
                raise TarError("its data ends within the sparse map")
            block += data
        return block

    def _read_special(self) -> bytes:
        if self._data_left > MAX_SPECIAL_SIZE:
            raise TarError(f"its extended header has {self._data_left} bytes, more than {MAX_SPECIAL_SIZE}")
        data = self._take(self._data_left)
        if len(data) < self._data_left:
            raise TarError("the archive ends within an extended header")
        self._data_left = 0
        return data

    def _read_data(self, size: int) -> bytes:
        if not self._data_left:
            return b""
        data = self._source.read(min(size, self._data_left))
        if not data:
            raise TarError(f"the archive ends {self._data_left} bytes before the end of a file")
        self.offset += len(data)
        self._data_left -= len(data)
        return data

    def _take(self, size: int) -> bytes:
        """Read `size` bytes that are not content; fewer only at the end."""
        taken = b""
        while len(taken) < size and (data := self._source.read(size - len(taken))):
            taken += data
        self.offset += len(taken)
        if self._raw is not None:
            self._raw += taken
        return taken


class _EndOfArchiveError(Exception):
    pass


def _unpack(block: bytes) -> Header:
    """Read the fields of a header block."""
    format_ = blk.block_format(block)
    if format_ == Format.UNKNOWN:
        raise TarError("the header's checksum is wrong")
    header = Header(
        typeflag=block[blk.TYPEFLAG],
        name=blk.parse_string(block[blk.NAME]),
        linkname=blk.parse_string(block[blk.LINKNAME]),
        size=blk.parse_numeric(block[blk.SIZE]),
        mode=blk.parse_numeric(block[blk.MODE]),
        uid=blk.parse_numeric(block[blk.UID]),
        gid=blk.parse_numeric(block[blk.GID]),
        mod_time=TarTime(blk.parse_numeric(block[blk.MTIME])),
    )
    if format_ == Format.V7:
        return header
    header.uname = blk.parse_string(block[blk.UNAME])
    header.gname = blk.parse_string(block[blk.GNAME])
    header.devmajor = blk.parse_numeric(block[blk.DEVMAJOR])
    header.devminor = blk.parse_numeric(block[blk.DEVMINOR])
    prefix = b""
    if format_ == Format.STAR:
        prefix = blk.parse_string(block[blk.STAR_PREFIX])
        header.access_time = TarTime(blk.parse_numeric(block[blk.STAR_ATIME]))
        header.change_time = TarTime(blk.parse_numeric(block[blk.STAR_CTIME]))
    elif format_ == Format.GNU:
        header.format = Format.GNU
        prefix = _unpack_gnu_times(header, block)
    else:
        prefix = blk.parse_string(block[blk.USTAR_PREFIX])
        strict = block.isascii() and all(block[field.stop - 1] == 0 for field in _NUMERIC_FIELDS)
        header.format = format_ if strict else Format.UNKNOWN
    if prefix:
        header.name = prefix + b"/" + header.name
    return header


def _unpack_gnu_times(header: Header, block: bytes) -> bytes:
    """Read atime and ctime of a GNU header; return the name prefix that Go < 1.8 wrote in their place."""
    try:
        atime, ctime = (
            TarTime(blk.parse_numeric(field)) if field[0] else ZERO_TIME
            for field in (block[blk.GNU_ATIME], block[blk.GNU_CTIME])
        )
    except TarError:
        header.format = Format.UNKNOWN
        prefix = blk.parse_string(block[blk.USTAR_PREFIX])
        return prefix if blk.is_ascii(prefix) else b""
    header.access_time, header.change_time = atime, ctime
    return b""
