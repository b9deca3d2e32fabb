"""Writing eStargz: gzip with a member for each file, and a table of contents (TOC) with their offsets.

A reader that supports it can fetch individual files. For others, it is a gzip layer that contains one more
file, the TOC. Files larger than `CHUNK_SIZE` are split into several members. The tar itself is unchanged
(upstream: `AppendTarLossLess`): like BuildKit, we neither reorder files nor add landmark files for
prefetching.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

from exporter.image import digest_bytes
from exporter.image.keys import STARGZ_TOC_DIGEST, STARGZ_UNCOMPRESSED_SIZE
from exporter.layer.compression.deflate import gzip_header
from exporter.layer.compression.gzip_writer import MemberWriter
from exporter.layer.estargz.toc import TOC_NAME, TocEntry, TocWriter
from exporter.layer.gotar import Header, TarError, TarReader, TarWriter, TypeFlag
from exporter.layer.streams import PIECE_SIZE, Readable, Writable

CHUNK_SIZE = 4 << 20
"""Maximum bytes of a file per member."""
FOOTER_SIZE = 51
LEGACY_FOOTER_SIZE = 47


_FLAG_EXTRA = 4
_FOOTERS = (
    (FOOTER_SIZE, re.compile(rb"SG\x16\x00([0-9a-fA-F]{16})STARGZ")),
    (LEGACY_FOOTER_SIZE, re.compile(rb"([0-9a-fA-F]{16})STARGZ")),
)
_EMPTY_DIGEST = digest_bytes(b"")


@dataclass(frozen=True, slots=True)
class EstargzInfo:
    """What a descriptor says about an eStargz blob.

    Attributes:
        toc_digest: The digest of the TOC.
        diff_id: The digest of the uncompressed tar, including the TOC.
        uncompressed_size: The size of that tar, in bytes.
    """

    toc_digest: str
    diff_id: str
    uncompressed_size: int

    def annotations(self) -> dict[str, str]:
        """The annotations that mark a layer as eStargz in a manifest."""
        return {
            STARGZ_TOC_DIGEST: self.toc_digest,
            STARGZ_UNCOMPRESSED_SIZE: str(self.uncompressed_size),
        }


def write_estargz(source: Readable, sink: Writable, members: MemberWriter, spool: BinaryIO) -> EstargzInfo:
    """Convert a tar to eStargz.

    Args:
        source: The tar.
        sink: Receives the blob.
        members: The compressor, which writes to `sink`.
        spool: An empty temporary file for the TOC.

    Raises:
        TarError: the tar is malformed, or contains something that eStargz does not support: a file with the
            TOC's name, an entry of an unknown kind, or a sparse file.
    """
    writer = _Writer(members, TocWriter(spool))
    writer.append_tar(source)
    toc_offset = writer.append_toc(spool)
    sink.write(footer(toc_offset))
    return writer.info()


def footer(toc_offset: int) -> bytes:
    """The 51 bytes at the end: an empty gzip member whose extra field has the offset of the TOC."""
    extra = b"SG\x16\x00%016xSTARGZ" % toc_offset
    header = bytearray(gzip_header(0))
    header[3] = _FLAG_EXTRA
    empty_stored_block = b"\x01\x00\x00\xff\xff"
    return bytes(header) + struct.pack("<H", len(extra)) + extra + empty_stored_block + bytes(8)


def parse_footer(tail: bytes) -> int | None:
    """Read the offset of the TOC from the last 51 bytes of a blob; None if they are not a footer.

    The footer of the older stargz format, 4 bytes shorter, is also recognised.
    """
    for size, pattern in _FOOTERS:
        if len(tail) >= size and (match := pattern.fullmatch(_extra_field(tail[-size:]))):
            return int(match[1], 16)
    return None


def is_toc(name: bytes) -> bool:
    """Whether a tar entry with this name is the TOC."""
    return posixpath.normpath(b"/" + name).lstrip(b"/") == TOC_NAME


def _extra_field(member: bytes) -> bytes:
    if not member.startswith(b"\x1f\x8b\x08") or not member[3] & _FLAG_EXTRA:
        return b""
    (length,) = struct.unpack_from("<H", member, 10)
    return member[12 : 12 + length]


class _Writer:
    def __init__(self, members: MemberWriter, toc: TocWriter) -> None:
        self._members = members
        self._toc = toc
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> None:
        self._members.write(data)
        self._hash.update(data)
        self._size += len(data)

    def append_tar(self, source: Readable) -> None:
        reader = TarReader(source, keep_raw=True)
        while (header := reader.next()) is not None:
            if is_toc(header.name):
                raise TarError(f"the layer has a file {TOC_NAME.decode()}, which eStargz reserves")
            if reader.is_sparse:
                raise TarError(f"eStargz cannot hold the sparse file {header.name!r}")
            entry = self._toc.describe(header)
            self._write_some(reader.take_raw())
            if entry.size:
                self._append_file(reader, entry)
            else:
                entry.digest = _EMPTY_DIGEST if header.typeflag == TypeFlag.REG else ""
                self._toc.add(entry)
        self._write_some(reader.take_raw())
        while data := source.read(PIECE_SIZE):
            self.write(data)
        self._members.end_member()

    def append_toc(self, spool: BinaryIO) -> int:
        """Append the TOC; return the offset of its member."""
        offsets: list[int] = []
        self._members.when_positioned(offsets.append)
        self._members.settle()
        self._toc.finish()
        tar = TarWriter(self)
        tar.write_header(Header(name=TOC_NAME, size=self._toc.size))
        spool.seek(0)
        while data := spool.read(PIECE_SIZE):
            tar.write(data)
        tar.close()
        self._members.finish()
        return offsets[0]

    def info(self) -> EstargzInfo:
        return EstargzInfo(self._toc.digest, f"sha256:{self._hash.hexdigest()}", self._size)

    def _append_file(self, reader: TarReader, entry: TocEntry) -> None:
        whole = hashlib.sha256()
        for start in range(0, entry.size, CHUNK_SIZE):
            length = min(CHUNK_SIZE, entry.size - start)
            chunk = TocEntry(name=entry.name, type="chunk") if start else entry
            chunk.chunk_offset = start
            chunk.chunk_size = CHUNK_SIZE if length == CHUNK_SIZE else 0
            chunk.offset = None
            self._members.end_member(flush_first=True)
            self._members.when_positioned(chunk.set_offset)
            chunk.chunk_digest = self._append_chunk(reader, length, whole)
            self._toc.add(chunk)
        entry.digest = f"sha256:{whole.hexdigest()}"

    def _append_chunk(self, reader: TarReader, length: int, whole: hashlib._Hash) -> str:
        digest = hashlib.sha256()
        while length:
            data = reader.read(min(length, PIECE_SIZE))
            self.write(data)
            whole.update(data)
            digest.update(data)
            length -= len(data)
        return f"sha256:{digest.hexdigest()}"

    def _write_some(self, data: bytes) -> None:
        if data:
            self.write(data)
