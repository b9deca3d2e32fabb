"""Writing entries to a tarball: byte for byte like fsutil's ``WriteTar``, or with exact times for layers."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping

from exporter.content.threads import StepTimer
from exporter.layer.entry import FileEntry, shown
from exporter.layer.gotar import Format, Header, TarError, TarTime, TarWriter, TypeFlag
from exporter.layer.gotar.pax import XATTR_PREFIX
from exporter.layer.streams import PIECE_SIZE, Pieces
from exporter.layer.tree import Kind

__all__ = ["tar_pieces"]

_TYPE_FLAGS: Mapping[Kind, bytes] = {
    Kind.FILE: TypeFlag.REG,
    Kind.DIRECTORY: TypeFlag.DIR,
    Kind.SYMLINK: TypeFlag.SYMLINK,
    Kind.CHARACTER_DEVICE: TypeFlag.CHAR,
    Kind.BLOCK_DEVICE: TypeFlag.BLOCK,
    Kind.FIFO: TypeFlag.FIFO,
}
_SECOND = 10**9


def tar_pieces(entries: Iterable[FileEntry], *, exact_times: bool = False) -> Generator[bytes, None, None]:
    """Write a tarball, in pieces. Blocks.

    Args:
        entries: The files, in order; iterated once.
        exact_times: Keep fractions of seconds. Otherwise, times are rounded, as ``WriteTar`` does.

    Raises:
        TarError: an entry cannot be written in any tar format; begins with BuildKit's text.
    """
    output = _Output()
    tar = TarWriter(output)
    timer = StepTimer()
    for entry in entries:
        header = _header(entry)
        if exact_times and header.mod_time.nanoseconds:
            header.format = Format.PAX  # else, the writer rounds
        try:
            tar.write_header(header)
        except TarError as error:
            raise TarError(f"failed to write file header {shown(header.name)}: {error}") from error
        if entry.has_content:
            for piece in entry.content.pieces():
                tar.write(piece)
                if output.size >= PIECE_SIZE or timer.is_over():
                    yield output.take()
        if output.size >= PIECE_SIZE:
            yield output.take()
    tar.close()
    yield output.take()


class _Output:
    def __init__(self) -> None:
        self._pieces = Pieces()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._pieces.write(data)
        self.size += len(data)

    def take(self) -> bytes:
        self.size = 0
        return self._pieces.take()


def _header(entry: FileEntry) -> Header:
    """The header of Go's ``tar.FileInfoHeader``, as modified by ``WriteTar``."""
    return Header(
        name=entry.path + b"/" if entry.kind is Kind.DIRECTORY else entry.path,
        typeflag=TypeFlag.LINK if entry.is_hard_link else _TYPE_FLAGS[entry.kind],
        linkname=entry.link,
        size=entry.size if entry.has_content else 0,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        mod_time=TarTime(*divmod(entry.mtime, _SECOND)),
        devmajor=entry.devmajor,
        devminor=entry.devminor,
        pax_records={XATTR_PREFIX + key: value for key, value in entry.xattrs.items()},
    )
