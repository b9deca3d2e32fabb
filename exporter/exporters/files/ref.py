"""Converting the files of a ref to entries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from exporter.exporters.files.entry import FileEntry
from exporter.layer.files import LayerFiles
from exporter.layer.gotar import TarTime
from exporter.layer.tree import Inode, Kind

__all__ = ["adjusted", "epoch_nanoseconds", "ref_entries"]

_NANOSECONDS = 10**9
_APPLE = b"com.apple."
_USER = b"user."


def ref_entries(files: LayerFiles) -> Iterator[FileEntry]:
    """The files of a ref, as BuildKit's exporters read them from a mount.

    If a file has several names, the first one is the file, and the others are hard links to it.
    """
    first_names: dict[Inode, bytes] = {}
    for path, inode in files.tree.walk():
        link = inode.target
        if inode.names > 1 and inode.kind not in {Kind.DIRECTORY, Kind.SYMLINK}:
            first = first_names.setdefault(inode, path)
            link = b"" if first is path else first
        yield FileEntry(
            path=path,
            kind=inode.kind,
            mode=inode.mode,
            uid=inode.uid,
            gid=inode.gid,
            mtime=_snapshot_time(inode.mod_time),
            size=len(inode.target) if inode.kind is Kind.SYMLINK else inode.size,
            link=link,
            devmajor=inode.devmajor,
            devminor=inode.devminor,
            xattrs={key: value for key, value in inode.xattrs.items() if _has_xattr(inode, key)},
            content=files.content(inode),
        )


def adjusted(
    entries: Iterable[FileEntry], *, epoch: int | None = None, hidden: frozenset[bytes] = frozenset()
) -> Iterator[FileEntry]:
    """The files of a ref as they are exported.

    Args:
        entries: The files.
        epoch: Seconds since 1970 to set all modification times to; None leaves them unchanged.
        hidden: Paths to leave out. If a file with several names loses its first one, the next one takes its
            place.
    """
    first_names: dict[bytes, bytes] = {}
    mtime = epoch_nanoseconds(epoch)
    for entry in entries:
        if entry.path in hidden:
            continue
        link = entry.link
        if entry.is_hard_link and hidden:
            first = entry.link if entry.link not in hidden else first_names.setdefault(entry.link, entry.path)
            link = b"" if first == entry.path else first
        yield replace(entry, link=link, mtime=entry.mtime if epoch is None else mtime)


def epoch_nanoseconds(epoch: int | None) -> int:
    """An epoch in nanoseconds; 0 if there is none. Overflows outside the years 1678 to 2262, as in Go."""
    return ((epoch or 0) * _NANOSECONDS + (1 << 63)) % (1 << 64) - (1 << 63)


def _snapshot_time(time: TarTime) -> int:
    """The time of a layer's file in a snapshot. containerd replaces times out of its range with 1970."""
    total = time.seconds * _NANOSECONDS + time.nanoseconds
    return total if 0 <= total < 1 << 63 else 0


def _has_xattr(inode: Inode, key: bytes) -> bool:
    """Whether the client receives an extended attribute of a layer's file.

    Linux does not support ``user.`` attributes on links and devices, so unpacking loses them. fsutil drops
    Apple's.
    """
    if key.startswith(_USER):
        return inode.kind in {Kind.FILE, Kind.DIRECTORY}
    return not key.startswith(_APPLE)
