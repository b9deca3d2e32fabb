"""The files of a ref, as its layers make them one on top of the other: enough to look a file up.

Whiteouts are those of the OCI image specification ("Image Layer Filesystem Changeset").
"""

from __future__ import annotations

import enum
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.layer.gotar import Header, TypeFlag

__all__ = ["FileTree", "Kind", "Node", "clean_path"]

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_MAX_LINKS = 255


class Kind(enum.Enum):
    """What is at a path."""

    DIRECTORY = 1
    FILE = 2
    LINK = 3
    OTHER = 4


@dataclass(frozen=True, slots=True)
class Node:
    """Something at a path.

    Attributes:
        kind: What it is.
        layer: Position of the layer whose entry it is.
        entry: Position of the entry in that layer's tar.
        target: Of a link: where it leads.
    """

    kind: Kind
    layer: int = -1
    entry: int = -1
    target: str = ""


class FileTree:
    """Paths (absolute, clean) and what is there."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {"/": Node(Kind.DIRECTORY)}

    def apply(self, header: Header, layer: int, entry: int) -> None:
        """Add an entry of a layer, or take away what it says is gone. In the order of layers and tars."""
        path = clean_path(header.name.decode("utf-8", "surrogateescape"))
        directory, name = posixpath.split(path)
        if name == _OPAQUE:
            self._remove_below(directory, older_than=layer)
        elif name.startswith(_WHITEOUT):
            self._remove(posixpath.join(directory, name.removeprefix(_WHITEOUT)))
        elif path != "/":
            self._put(path, self._node(header, layer, entry))

    def find(self, path: str) -> Node:
        """Look a path up, links followed as seen from the ref's root.

        Raises:
            NotFoundError: there is nothing.
            InvalidArgumentError: links lead in circles.
        """
        return self._nodes[self._resolve(path)]

    def list(self, path: str) -> Mapping[str, Node]:
        """What is in a directory, by name; links in it are followed as seen from there.

        Raises:
            NotFoundError: there is no such directory.
            InvalidArgumentError: it is none, or links lead in circles.
        """
        resolved = self._resolve(path)
        if self._nodes[resolved].kind is not Kind.DIRECTORY:
            raise InvalidArgumentError(f"{path} is not a directory")
        names = [
            posixpath.basename(other)
            for other in self._nodes
            if other != "/" and posixpath.dirname(other) == resolved
        ]
        return {name: self._nodes[self._resolve(name, root=resolved)] for name in names}

    def _node(self, header: Header, layer: int, entry: int) -> Node:
        match header.typeflag:
            case TypeFlag.DIR:
                return Node(Kind.DIRECTORY, layer, entry)
            case TypeFlag.REG:
                return Node(Kind.FILE, layer, entry)
            case TypeFlag.SYMLINK:
                return Node(Kind.LINK, layer, entry, header.linkname.decode("utf-8", "surrogateescape"))
            case TypeFlag.LINK:
                target = clean_path(header.linkname.decode("utf-8", "surrogateescape"))
                return self._nodes.get(target, Node(Kind.OTHER, layer, entry))
            case _:
                return Node(Kind.OTHER, layer, entry)

    def _put(self, path: str, node: Node) -> None:
        known = self._nodes.get(path)
        if known is not None and Kind.DIRECTORY in {known.kind, node.kind} and known.kind is not node.kind:
            self._remove(path)
        # A layer need not list the directories above its files.
        parent = posixpath.dirname(path)
        if parent not in self._nodes:
            self._put(parent, Node(Kind.DIRECTORY, node.layer))
        self._nodes[path] = node

    def _remove(self, path: str) -> None:
        self._nodes.pop(path, None)
        self._remove_below(path)

    def _remove_below(self, path: str, *, older_than: int | None = None) -> None:
        prefix = path.rstrip("/") + "/"
        gone = [
            other
            for other, node in self._nodes.items()
            if other.startswith(prefix) and other != "/" and (older_than is None or node.layer < older_than)
        ]
        for other in gone:
            del self._nodes[other]

    def _resolve(self, path: str, *, root: str = "/") -> str:
        """The path of what a path leads to; it cannot leave `root`."""
        pending = path.split("/")[::-1]
        base = root.rstrip("/")
        here = base
        links = 0
        while pending:
            part = pending.pop()
            if part == "..":
                here = posixpath.dirname(here) if here != base else base
            if part in {"", ".", ".."}:
                continue
            node = self._nodes.get(f"{here}/{part}")
            if node is None:
                raise NotFoundError(f"{path}: no such file")
            if node.kind is not Kind.LINK:
                here = f"{here}/{part}"
                continue
            links += 1
            if links > _MAX_LINKS:
                raise InvalidArgumentError(f"{path}: too many links")
            if node.target.startswith("/"):
                here = base
            pending += node.target.split("/")[::-1]
        return here or "/"


def clean_path(path: str) -> str:
    """A path as the tree knows it: absolute, without dots; one that leads above the root ends at the root."""
    return posixpath.normpath("/" + path.lstrip("/"))
