"""The layer between two file trees: new and changed files, and whiteouts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from exporter.layer.entry import FileEntry
from exporter.layer.files import LayerFiles
from exporter.layer.tree import FileTree, Inode, Kind

_WHITEOUT = b".wh."
_NANOSECONDS = 10**9


def tree_entry(files: LayerFiles, path: bytes, inode: Inode, link: bytes = b"") -> FileEntry:
    """The entry of an inode of unpacked layers, exactly as in its layer.

    Args:
        files: The unpacked layers.
        path: Its path.
        inode: The inode.
        link: For a hard link, the path of the entry with the content.
    """
    return FileEntry(
        path=path,
        kind=inode.kind,
        mode=inode.mode,
        uid=inode.uid,
        gid=inode.gid,
        mtime=inode.mod_time.seconds * _NANOSECONDS + inode.mod_time.nanoseconds,
        size=len(inode.target) if inode.kind is Kind.SYMLINK else inode.size,
        link=inode.target if inode.kind is Kind.SYMLINK else link,
        devmajor=inode.devmajor,
        devminor=inode.devminor,
        xattrs=inode.xattrs,
        content=files.content(inode),
    )


def difference(files: LayerFiles) -> Iterator[FileEntry]:
    """The entries of a layer that turns ``files.lower`` into ``files.tree``, in walk order.

    The layer is self-contained: it has the parents of all entries, and its hard links stay within it. If a
    file of a lower layer gets a new name, the layer has the file's content and all of its names, because some
    engines unpack each layer into an empty directory.

    Args:
        files: The layers, unpacked with `keep`.
    """
    before = dict((files.lower or FileTree()).walk())
    after = dict(files.tree.walk())
    wanted = _changed(before, after)
    whiteouts = [_whiteout(path) for path in before if _needs_whiteout(path, before, after)]
    for path in [*wanted, *whiteouts]:
        while path := path.rpartition(b"/")[0]:
            if path in wanted:
                break
            wanted.add(path)
    return _entries(files, after, wanted, whiteouts)


def _entries(
    files: LayerFiles, after: dict[bytes, Inode], wanted: set[bytes], whiteouts: list[bytes]
) -> Iterator[FileEntry]:
    first_names: dict[Inode, bytes] = {}
    for path in sorted([*wanted, *whiteouts], key=lambda path: path.replace(b"/", b"\x00")):
        inode = after.get(path)
        if inode is None:
            yield FileEntry(path=path)
            continue
        link = b""
        if inode.names > 1 and inode.kind not in {Kind.DIRECTORY, Kind.SYMLINK}:
            first = first_names.setdefault(inode, path)
            link = b"" if first is path else first
        yield tree_entry(files, path, inode, link)


def _changed(before: dict[bytes, Inode], after: dict[bytes, Inode]) -> set[bytes]:
    """The paths whose inode is new or differs, with all other names of the same inode."""
    names: defaultdict[Inode, list[bytes]] = defaultdict(list)
    for path, inode in after.items():
        names[inode].append(path)
    changed: set[bytes] = set()
    for inode, paths in names.items():
        old = before.get(paths[0])
        if old is None or any(before.get(path) is not old for path in paths) or _differ(old, inode):
            changed.update(paths)
    return changed


def _differ(old: Inode, new: Inode) -> bool:
    """Whether inodes differ in more than their names. Contents at the same position are the same."""
    return any(
        getattr(old, name) != getattr(new, name)
        for name in (
            *("kind", "mode", "uid", "gid", "mod_time", "size", "content", "target"),
            *("devmajor", "devminor", "xattrs"),
        )
        # Directories have no content, but each entry for one has a position.
        if name != "content" or new.kind is Kind.FILE
    )


def _needs_whiteout(path: bytes, before: dict[bytes, Inode], after: dict[bytes, Inode]) -> bool:
    """Whether a path is gone while its directory remains."""
    if path in after:
        return False
    parent = path.rpartition(b"/")[0]
    return not parent or (parent in after and after[parent].kind is Kind.DIRECTORY)


def _whiteout(path: bytes) -> bytes:
    folder, slash, base = path.rpartition(b"/")
    return folder + slash + _WHITEOUT + base
