"""The files of a directory, as entries of a layer."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from exporter.layer.entry import BytesContent, FileEntry
from exporter.layer.streams import PIECE_SIZE
from exporter.layer.tree import Kind

_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHARACTER_DEVICE,
    stat.S_IFBLK: Kind.BLOCK_DEVICE,
    stat.S_IFIFO: Kind.FIFO,
}


def directory_entries(root: Path) -> Iterator[FileEntry]:
    """The files below a directory, in walk order, owned by root. Blocks.

    Sockets are skipped. Extended attributes are not read, because those of the machine (SELinux labels) do
    not belong in an image.

    Raises:
        OSError: a file cannot be read.
    """
    links: dict[tuple[int, int], bytes] = {}
    pending = _children(root, b"")
    while pending:
        path = pending.pop()
        place = root / os.fsdecode(path)
        info = place.lstat()
        kind = _KINDS.get(stat.S_IFMT(info.st_mode))
        if kind is None:
            continue
        link = os.fsencode(place.readlink()) if kind is Kind.SYMLINK else b""
        if info.st_nlink > 1 and kind not in {Kind.DIRECTORY, Kind.SYMLINK}:
            first = links.setdefault((info.st_dev, info.st_ino), path)
            link = b"" if first is path else first
        is_device = kind in {Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE}
        yield FileEntry(
            path=path,
            kind=kind,
            mode=stat.S_IMODE(info.st_mode),
            mtime=info.st_mtime_ns,
            size=info.st_size if kind is Kind.FILE else len(link),
            link=link,
            devmajor=os.major(info.st_rdev) if is_device else 0,
            devminor=os.minor(info.st_rdev) if is_device else 0,
            content=_FileOnDisk(place) if kind is Kind.FILE else BytesContent(b""),
        )
        if kind is Kind.DIRECTORY:
            pending += _children(place, path)


def _children(place: Path, path: bytes) -> list[bytes]:
    names = sorted((os.fsencode(child.name) for child in place.iterdir()), reverse=True)
    return [path + b"/" + name if path else name for name in names]


@dataclass(frozen=True, slots=True)
class _FileOnDisk:
    path: Path

    def pieces(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            while data := file.read(PIECE_SIZE):
                yield data
