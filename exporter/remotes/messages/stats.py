"""Converting entries to fsutil's ``Stat`` messages and back."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.errors import InvalidArgumentError
from exporter.pb.fsutil.types import stat_pb2
from exporter.source.files import FileEntry, Kind, shown

# Go's fs.FileMode.
_SOCKET = 1 << 24
_SETUID, _SETGID, _STICKY = 1 << 23, 1 << 22, 1 << 20
_TYPES: Mapping[Kind, int] = {
    Kind.FILE: 0,
    Kind.DIRECTORY: 1 << 31,
    Kind.SYMLINK: 1 << 27,
    Kind.BLOCK_DEVICE: 1 << 26,
    Kind.CHARACTER_DEVICE: 1 << 26 | 1 << 21,
    Kind.FIFO: 1 << 25,
}
_KINDS = {bits: kind for kind, bits in _TYPES.items()}
_TYPE_MASK = 1 << 31 | 1 << 27 | 1 << 26 | 1 << 25 | _SOCKET | 1 << 21 | 1 << 19
_SPECIAL_BITS = ((0o4000, _SETUID), (0o2000, _SETGID), (0o1000, _STICKY))


def stat_of(entry: FileEntry) -> stat_pb2.Stat:
    """Convert an entry to a message."""
    special = sum(bit for flag, bit in _SPECIAL_BITS if entry.mode & flag)
    return stat_pb2.Stat(
        path=entry.path,
        mode=_TYPES[entry.kind] | special | entry.mode & 0o777,
        uid=entry.uid,
        gid=entry.gid,
        size=entry.size,
        modTime=entry.mtime,
        linkname=entry.link,
        devmajor=entry.devmajor,
        devminor=entry.devminor,
        xattrs=[stat_pb2.Xattr(key=key, value=value) for key, value in sorted(entry.xattrs.items())],
    )


def is_socket(stat: stat_pb2.Stat) -> bool:
    """Whether a message is about a socket, which entries cannot be."""
    return bool(stat.mode & _SOCKET)


def entry_of(stat: stat_pb2.Stat) -> FileEntry:
    """Convert a message to an entry, whose content arrives in other messages.

    Raises:
        InvalidArgumentError: the file type is unknown, or the size is negative.
    """
    if stat.size < 0:
        raise InvalidArgumentError(f"{shown(stat.path)} has a negative size: {stat.size}")
    kind = _KINDS.get(stat.mode & _TYPE_MASK)
    if kind is None:
        raise InvalidArgumentError(f"{shown(stat.path)} is of an unknown kind: mode {stat.mode:#o}")
    return FileEntry(
        path=stat.path,
        kind=kind,
        mode=stat.mode & 0o777 | sum(flag for flag, bit in _SPECIAL_BITS if stat.mode & bit),
        uid=stat.uid,
        gid=stat.gid,
        mtime=stat.modTime,
        size=stat.size,
        link=stat.linkname,
        devmajor=stat.devmajor,
        devminor=stat.devminor,
        xattrs={xattr.key: xattr.value for xattr in stat.xattrs},
    )
