"""The file tree that results from applying layers on top of each other. Pure: it only handles tar headers.

Sources: OCI image specification, "Image Layer Filesystem Changeset"; where that is silent, containerd's
``archive.Apply``, with which BuildKit unpacks layers. As there, entries cannot escape from the tree: names
are relative to the root, ``..`` stops there, and symbolic links are resolved within the tree.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.layer.gotar import Header, TarTime, TypeFlag
from exporter.layer.gotar.header import ZERO_TIME
from exporter.layer.gotar.pax import XATTR_PREFIX
from exporter.source.files import Kind

__all__ = ["FileTree", "Inode", "Kind", "Name"]

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_MAX_LINKS = 255
_IMPLICIT_MODE = 0o755
_MODE_MASK = 0o7777


_KINDS: Mapping[bytes, Kind] = {
    TypeFlag.REG: Kind.FILE,
    TypeFlag.DIR: Kind.DIRECTORY,
    TypeFlag.SYMLINK: Kind.SYMLINK,
    TypeFlag.CHAR: Kind.CHARACTER_DEVICE,
    TypeFlag.BLOCK: Kind.BLOCK_DEVICE,
    TypeFlag.FIFO: Kind.FIFO,
}


@dataclass(slots=True, eq=False)
class Inode:
    """A file, directory, symbolic link or device. Hard links are several names of the same inode.

    Attributes:
        mode: Permissions, set-ID and sticky bits.
        size: The size of a file in bytes.
        content: The caller's position of the content, as passed to `FileTree.apply`.
        target: The target of a symbolic link.
        devmajor: The major number of a device; likewise `devminor`.
        names: The number of its names.
        children: The entries of a directory by name, unsorted.
    """

    kind: Kind
    mode: int = _IMPLICIT_MODE
    uid: int = 0
    gid: int = 0
    mod_time: TarTime = ZERO_TIME
    size: int = 0
    content: int = 0
    target: bytes = b""
    devmajor: int = 0
    devminor: int = 0
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    names: int = 0
    children: dict[bytes, Name] = field(default_factory=dict)


class Name(NamedTuple):
    """A name in a directory: its inode, and the layer that it comes from."""

    inode: Inode
    layer: int


class FileTree:
    """A tree of files. Paths are bytes; a leading slash makes no difference."""

    def __init__(self) -> None:
        self.root = Inode(Kind.DIRECTORY, names=1)
        self._layer = 0

    def begin_layer(self) -> None:
        """Begin a new layer on top of the others. Subsequent entries belong to it."""
        self._layer += 1

    def apply(self, header: Header, content: int = 0) -> None:
        """Apply an entry of the current layer.

        Args:
            header: The entry.
            content: The value for `Inode.content`.

        Raises:
            InvalidArgumentError: it cannot be applied: its kind is unknown, it is a hard link to a directory
                or to nothing, or its parent is not a directory.
        """
        if header.typeflag == TypeFlag.X_GLOBAL_HEADER:
            return
        *folder, base = _parts(header.name) or [b""]
        if not base:
            return  # layers do not change the attributes of the root
        parent = self._make_directories(self._resolve(folder))
        if base == _OPAQUE:
            self._hide_lower(parent)
        elif base.startswith(_WHITEOUT):
            self._white_out(parent, header.name, base.removeprefix(_WHITEOUT))
        elif header.typeflag == TypeFlag.LINK:
            _unlink(parent, base)
            self._link(parent, base, self._link_target(header))
        else:
            self._put(parent, base, _new_inode(header, content))

    def copy(self) -> FileTree:
        """A copy with inodes of its own, which later layers of the original do not change."""
        copies = {self.root: replace(self.root)}
        pending = [copies[self.root]]
        while pending:
            inode = pending.pop()
            children = {}
            for base, name in inode.children.items():
                if name.inode not in copies:
                    copies[name.inode] = replace(name.inode)
                    pending.append(copies[name.inode])
                children[base] = Name(copies[name.inode], name.layer)
            inode.children = children
        tree = FileTree()
        tree.root, tree._layer = copies[self.root], self._layer
        return tree

    def find(self, path: bytes, *, follow: bool = True) -> Inode:
        """Look up a path, resolving symbolic links within the tree.

        Args:
            path: The path from the root.
            follow: Whether to also follow a link that is the last component.

        Raises:
            InvalidArgumentError: there are too many links, probably in a cycle.
            NotFoundError: the path does not exist.
        """
        parts = _parts(path)
        if follow:
            parts = self._resolve(parts)
        elif parts:
            parts = [*self._resolve(parts[:-1]), parts[-1]]
        inode = self.root
        for part in parts:
            name = inode.children.get(part)
            if name is None:
                raise NotFoundError(f"{_show(path)}: no such file or directory")
            inode = name.inode
        return inode

    def walk(self) -> Iterator[tuple[bytes, Inode]]:
        """All paths except the root, without a leading slash.

        Directories come before their contents; names are sorted by their bytes.
        """
        pending = [(name, child.inode) for name, child in sorted(self.root.children.items(), reverse=True)]
        while pending:
            path, inode = pending.pop()
            yield path, inode
            pending += (
                (path + b"/" + name, child.inode)
                for name, child in sorted(inode.children.items(), reverse=True)
            )

    def _put(self, parent: Inode, base: bytes, inode: Inode) -> None:
        old = parent.children.get(base)
        if old is not None and old.inode.kind is inode.kind is Kind.DIRECTORY:
            inode.children = old.inode.children
        else:
            _unlink(parent, base)
        inode.names = 1
        parent.children[base] = Name(inode, self._layer)

    def _link(self, parent: Inode, base: bytes, inode: Inode) -> None:
        inode.names += 1
        parent.children[base] = Name(inode, self._layer)

    def _link_target(self, header: Header) -> Inode:
        try:
            inode = self.find(header.linkname, follow=False)
        except NotFoundError:
            raise InvalidArgumentError(
                f"{_show(header.name)} is a hard link to {_show(header.linkname)}, which does not exist"
            ) from None
        if inode.kind is Kind.DIRECTORY:
            raise InvalidArgumentError(
                f"{_show(header.name)} is a hard link to the directory {_show(header.linkname)}"
            )
        # The header of a hard link overrides the attributes of the inode.
        inode.mode = header.mode & _MODE_MASK
        inode.uid, inode.gid, inode.mod_time = header.uid, header.gid, header.mod_time
        inode.xattrs = {**inode.xattrs, **_xattrs(header)}
        return inode

    def _white_out(self, parent: Inode, whiteout: bytes, base: bytes) -> None:
        if base in {b"", b".", b".."}:
            raise InvalidArgumentError(f"invalid whiteout name: {_show(whiteout)}")
        name = parent.children.get(base)
        if name is None:
            return
        if name.layer < self._layer:
            self._hide(parent, base)
        elif name.inode.kind is Kind.DIRECTORY:
            self._hide_lower(name.inode)

    def _hide_lower(self, directory: Inode) -> None:
        """Remove what lower layers put into a directory. What this layer put there stays."""
        for base, name in list(directory.children.items()):
            if name.layer < self._layer:
                self._hide(directory, base)
            elif name.inode.kind is Kind.DIRECTORY:
                self._hide_lower(name.inode)

    def _hide(self, parent: Inode, base: bytes) -> None:
        """Remove a name of a lower layer. A directory stays if this layer put something into it."""
        inode = parent.children[base].inode
        self._hide_lower(inode)
        if inode.children:
            return
        _unlink(parent, base)

    def _make_directories(self, parts: list[bytes]) -> Inode:
        inode = self.root
        for part in parts:
            name = inode.children.get(part)
            if name is None:
                name = inode.children[part] = Name(Inode(Kind.DIRECTORY, names=1), self._layer)
            elif name.inode.kind is not Kind.DIRECTORY:
                raise InvalidArgumentError(f"{_show(b'/'.join(parts))}: {_show(part)} is not a directory")
            inode = name.inode
        return inode

    def _resolve(self, parts: list[bytes]) -> list[bytes]:
        """Resolve the links in a path, which need not exist. ``..`` is resolved lexically, as in Go."""
        links = 0
        position = 0
        inode: Inode | None = self.root
        while position < len(parts):
            name = None if inode is None else inode.children.get(parts[position])
            inode = None if name is None else name.inode
            position += 1
            if inode is None or inode.kind is not Kind.SYMLINK:
                continue
            links += 1
            if links > _MAX_LINKS:
                raise InvalidArgumentError(f"{_show(b'/'.join(parts))}: too many links")
            before = [] if inode.target.startswith(b"/") else parts[: position - 1]
            parts = _parts(b"/".join([*before, inode.target, *parts[position:]]))
            position, inode = 0, self.root
        return parts


def _parts(path: bytes) -> list[bytes]:
    """The components of a path from the root. ``..`` does not lead above it."""
    cleaned = posixpath.normpath(b"/" + path.lstrip(b"/"))
    return [part for part in cleaned.split(b"/") if part]


def _new_inode(header: Header, content: int) -> Inode:
    kind = _KINDS.get(header.typeflag)
    if kind is None:
        raise InvalidArgumentError(f"{_show(header.name)} is of an unknown kind, {header.typeflag!r}")
    is_device = kind in {Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE}
    return Inode(
        kind,
        mode=header.mode & _MODE_MASK,
        uid=header.uid,
        gid=header.gid,
        mod_time=header.mod_time,
        size=header.size if kind is Kind.FILE else 0,
        content=content,
        target=header.linkname if kind is Kind.SYMLINK else b"",
        devmajor=header.devmajor if is_device else 0,
        devminor=header.devminor if is_device else 0,
        xattrs=_xattrs(header),
    )


def _xattrs(header: Header) -> dict[bytes, bytes]:
    records = header.pax_records.items()
    return {key[len(XATTR_PREFIX) :]: value for key, value in records if key.startswith(XATTR_PREFIX)}


def _unlink(parent: Inode, base: bytes) -> None:
    """Remove a name and everything below it."""
    pending = [parent.children.pop(base)] if base in parent.children else []
    while pending:
        inode = pending.pop().inode
        inode.names -= 1
        if not inode.names:
            pending += inode.children.values()
            inode.children = {}


def _show(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
