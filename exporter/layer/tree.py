"""The tree of files that layers make, one on top of the other. Pure: entries of tars go in, a tree comes out.

Sources: OCI image specification, "Image Layer Filesystem Changeset"; where that is silent, containerd's
``archive.Apply``, which is what unpacks layers under BuildKit. Like it, and unlike a plain unpacker, this
cannot be led out of the tree: names are taken from the root, ``..`` ends there, and links in the way of a
name are followed within the tree.
"""

from __future__ import annotations

import enum
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.layer.gotar import Header, TarTime, TypeFlag
from exporter.layer.gotar.header import ZERO_TIME
from exporter.layer.gotar.pax import XATTR_PREFIX

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_MAX_LINKS = 255
_IMPLICIT_MODE = 0o755
_MODE_MASK = 0o7777


class Kind(enum.Enum):
    """What an inode is."""

    FILE = enum.auto()
    DIRECTORY = enum.auto()
    SYMLINK = enum.auto()
    CHARACTER_DEVICE = enum.auto()
    BLOCK_DEVICE = enum.auto()
    FIFO = enum.auto()


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
    """A file, directory, link or device. Hard links are several names of the same object.

    Attributes:
        mode: Permissions, set-ID and sticky bits.
        size: Bytes of a file's content.
        content: Where the content is; a number that whoever filled the tree gave.
        target: Of a symbolic link.
        devmajor: Of a device; likewise `devminor`.
        names: How many names it has.
        children: Of a directory, by name, in no order.
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
    """A name in a directory: what it stands for, and the layer that gave it."""

    inode: Inode
    layer: int


class FileTree:
    """A tree of files. Paths are bytes; a slash at the start makes no difference."""

    def __init__(self) -> None:
        self.root = Inode(Kind.DIRECTORY, names=1)
        self._layer = 0

    def begin_layer(self) -> None:
        """What is applied from now on belongs to a new layer, on top of the others."""
        self._layer += 1

    def apply(self, header: Header, content: int = 0) -> None:
        """Apply an entry of the current layer.

        Args:
            header: The entry.
            content: Where its content is, for `Inode.content`.

        Raises:
            InvalidArgumentError: it cannot be applied: it is of an unknown kind, or a hard link to nothing
            or to a
                directory, or lies below something that is not a directory.
        """
        if header.typeflag == TypeFlag.X_GLOBAL_HEADER:
            return
        *folder, base = _parts(header.name) or [b""]
        if not base:
            return  # the root, whose attributes are not a layer's affair
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

    def find(self, path: bytes, *, follow: bool = True) -> Inode:
        """Look up a path; links in it are followed within the tree.

        Args:
            path: From the root.
            follow: Whether a link at the very end is followed, too.

        Raises:
            InvalidArgumentError: the links go in circles.
            NotFoundError: there is nothing.
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
        """All paths but the root's, without a slash at the start.

        Directories come before what is in them; names are sorted by their bytes.
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
        # Its own header is as good as that of the first name.
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
        """Take away what lower layers put into a directory; what this layer put there stays."""
        for base, name in list(directory.children.items()):
            if name.layer < self._layer:
                self._hide(directory, base)
            elif name.inode.kind is Kind.DIRECTORY:
                self._hide_lower(name.inode)

    def _hide(self, parent: Inode, base: bytes) -> None:
        """Take away a name of a lower layer; a directory in which this layer has something stays for that."""
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
        """Follow the links in a path, which need not exist; ``..`` in a link takes away names, as in Go."""
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
    """The parts of a path from the root, above which there is nothing."""
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
    """Remove a name, and what is below it."""
    pending = [parent.children.pop(base)] if base in parent.children else []
    while pending:
        inode = pending.pop().inode
        inode.names -= 1
        if not inode.names:
            pending += inode.children.values()
            inode.children = {}


def _show(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
