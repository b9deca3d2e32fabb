"""Sparse files: GNU's old format, and its PAX formats 0.0, 0.1 and 1.0.

All of them list the fragments that contain data; the gaps read as NULs. Limits and rejections are those of
Go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from exporter.layer.gotar.block import (
    BLOCK_SIZE,
    GNU_REALSIZE,
    GNU_SPARSE,
    parse_decimal,
    parse_numeric,
)
from exporter.layer.gotar.header import Header, TarError

MAX_SPECIAL_SIZE = 1 << 20
"""Maximum bytes of a PAX header, a GNU long name or a sparse map; archives with larger ones are rejected."""

NUMBLOCKS = b"GNU.sparse.numblocks"
OFFSET = b"GNU.sparse.offset"
NUMBYTES = b"GNU.sparse.numbytes"
MAP = b"GNU.sparse.map"
_NAME = b"GNU.sparse.name"
_MAJOR = b"GNU.sparse.major"
_MINOR = b"GNU.sparse.minor"
_SIZE = b"GNU.sparse.size"
_REALSIZE = b"GNU.sparse.realsize"

_ENTRY = 24
_MAX_ENTRIES = 1 << 20
_MAX_INT64 = (1 << 63) - 1


class Fragment(NamedTuple):
    """A range of data within a sparse file, in bytes."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The offset after its last byte."""
        return self.offset + self.length


def pax_fragments(header: Header, read_block: Callable[[], bytes]) -> list[Fragment] | None:
    """Read the sparse map of an entry; None if its PAX records do not mark it as sparse.

    Sets the header's real name and size.

    Args:
        header: The entry, with its PAX records merged.
        read_block: Reads the next 512 bytes of the entry's data, where format 1.0 has its map.
    """
    records = header.pax_records
    version = records.get(_MAJOR, b""), records.get(_MINOR, b"")
    if version == (b"1", b"0"):
        in_data = True
    elif version in {(b"0", b"0"), (b"0", b"1")} or (version == (b"", b"") and records.get(MAP)):
        in_data = False
    else:
        return None
    header.name = records.get(_NAME) or header.name
    if size := records.get(_SIZE) or records.get(_REALSIZE):
        header.size = parse_decimal(size)
    return _fragments_in_data(read_block) if in_data else _fragments_in_records(records)


def old_gnu_fragments(header: Header, block: bytes, read_block: Callable[[], bytes]) -> list[Fragment]:
    """Read the sparse map of GNU's old format from the header block and the following blocks.

    Sets the header's real size.
    """
    header.size = parse_numeric(block[GNU_REALSIZE])
    fragments: list[Fragment] = []
    entries = block[GNU_SPARSE]
    total = len(entries)
    while total < MAX_SPECIAL_SIZE:
        count = len(entries) // _ENTRY
        for start in range(0, count * _ENTRY, _ENTRY):
            if entries[start] == 0:
                break
            offset, length = entries[start : start + 12], entries[start + 12 : start + _ENTRY]
            fragments.append(Fragment(parse_numeric(offset), parse_numeric(length)))
        if not entries[count * _ENTRY]:
            return fragments
        entries = read_block()
        total += len(entries)
    raise TarError("its sparse map is too long")


def check_fragments(fragments: Iterable[Fragment], size: int) -> None:
    """Check that the fragments are sorted, disjoint and within `size` bytes.

    Raises:
        TarError: they do not.
    """
    previous_end = 0
    if size < 0:
        raise TarError(f"its size {size} is negative")
    for fragment in fragments:
        if fragment.offset < previous_end or fragment.length < 0 or fragment.end > min(size, _MAX_INT64):
            raise TarError(f"its sparse map is wrong at {tuple(fragment)}: the file has {size} bytes")
        previous_end = fragment.end


def holes_of(fragments: Iterable[Fragment], size: int) -> Iterator[Fragment]:
    """The holes between the fragments. The last one, which may be empty, ends at `size`."""
    position = 0
    for fragment in fragments:
        if not fragment.length:
            continue
        if fragment.offset > position:
            yield Fragment(position, fragment.offset - position)
        position = fragment.end
    yield Fragment(position, size - position)


def _fragments_in_data(read_block: Callable[[], bytes]) -> list[Fragment]:
    lines = _lines(read_block)
    count = parse_decimal(next(lines))
    if count < 0:
        raise TarError(f"its sparse map announces {count} entries")
    return [Fragment(parse_decimal(next(lines)), parse_decimal(next(lines))) for _ in range(count)]


def _lines(read_block: Callable[[], bytes]) -> Iterator[bytes]:
    """Split blocks into lines, reading each block only when it is needed."""
    pending = b""
    for _ in range(MAX_SPECIAL_SIZE // BLOCK_SIZE):
        pending += read_block()
        *lines, pending = pending.split(b"\n")
        yield from lines
    raise TarError("its sparse map is too long")


def _fragments_in_records(records: Mapping[bytes, bytes]) -> list[Fragment]:
    count = parse_decimal(records.get(NUMBLOCKS, b""))
    listed = records.get(MAP)
    numbers = [parse_decimal(number) for number in listed.split(b",")] if listed else []
    if len(numbers) != 2 * count or count > _MAX_ENTRIES:
        raise TarError(f"its sparse map has {len(numbers)} numbers instead of {2 * count}")
    return [Fragment(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]
