"""What the layers of an image add, and what later layers hide of it."""

from __future__ import annotations

import heapq
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from exporter.layer import Header, TypeFlag

__all__ = ["Contents", "Hidden", "LayerContents", "LayerFile"]

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_KEPT = 1000
"""Files that are kept per list. The page shows fewer."""


@dataclass(eq=False, slots=True)
class LayerFile:
    """A file as one layer has it. Hard links are further names of it.

    Attributes:
        path: Its first name, relative to the root.
        size: Its size in bytes.
        layer: The index of the layer.
        names: How many of its names are visible.
    """

    path: bytes
    size: int
    layer: int
    names: int = 1


@dataclass(frozen=True, slots=True)
class Hidden:
    """A file that takes up space in its layer, but is not in the image.

    Attributes:
        file: The file.
        by: The index of the layer that removes or replaces it.
    """

    file: LayerFile
    by: int


@dataclass(slots=True)
class LayerContents:
    """What a layer adds.

    Attributes:
        files: The number of its files, without directories.
        size: Their sizes in total.
        removed: The number of its whiteouts.
        hidden_files: How many of its files later layers hide.
        hidden_size: Their sizes in total.
    """

    files: int = 0
    size: int = 0
    removed: int = 0
    hidden_files: int = 0
    hidden_size: int = 0


_Directory = dict[bytes, "LayerFile | _Directory"]


@dataclass
class Contents:
    """The files of an image, layer by layer, base first. Without I/O: it receives the headers of the tars.

    Names are taken literally: a symbolic link among the directories of a path is not followed. Whiteouts are
    those of the OCI image specification.

    Attributes:
        layers: What each layer adds.
    """

    layers: list[LayerContents] = field(default_factory=list)
    _root: _Directory = field(default_factory=dict)
    _largest_hidden: list[tuple[int, int, Hidden]] = field(default_factory=list)
    _hidden: int = 0

    @property
    def size(self) -> int:
        """The sizes of all files in all layers."""
        return sum(layer.size for layer in self.layers)

    @property
    def hidden_size(self) -> int:
        """The sizes of the files that are not visible in the image."""
        return sum(layer.hidden_size for layer in self.layers)

    def add_layer(self, headers: Iterable[Header]) -> None:
        """Apply the entries of the next layer."""
        self.layers.append(LayerContents())
        for header in headers:
            self._apply(header)

    def largest_hidden(self, count: int) -> list[Hidden]:
        """The largest hidden files, largest first."""
        return [hidden for *_, hidden in heapq.nlargest(count, self._largest_hidden)]

    def largest(self, count: int, layer: int | None = None) -> list[LayerFile]:
        """The largest files that are visible in the image, largest first.

        Args:
            count: How many at most.
            layer: Only those of this layer.
        """
        files = {id(file): file for file in _files(self._root) if layer is None or file.layer == layer}
        return heapq.nsmallest(count, files.values(), key=lambda file: (-file.size, file.path))

    def _apply(self, header: Header) -> None:
        if header.typeflag == TypeFlag.X_GLOBAL_HEADER:
            return
        *folder, base = _parts(header.name) or [b""]
        if not base:
            return
        if base == _OPAQUE:
            self._current.removed += 1
            self._hide_lower(*_split(folder))
        elif base.startswith(_WHITEOUT):
            self._current.removed += 1
            self._hide_lower(folder, base.removeprefix(_WHITEOUT))
        elif header.typeflag == TypeFlag.DIR:
            self._directory([*folder, base])
        else:
            self._put(folder, base, header)

    @property
    def _current(self) -> LayerContents:
        return self.layers[-1]

    @property
    def _index(self) -> int:
        return len(self.layers) - 1

    def _put(self, folder: list[bytes], base: bytes, header: Header) -> None:
        self._current.files += 1
        path = b"/".join([*folder, base])
        file: LayerFile | None = None
        if header.typeflag == TypeFlag.LINK:
            found = self._find(_parts(header.linkname))
            if isinstance(found, LayerFile):
                file = found
                file.names += 1
        if file is None:
            self._current.size += header.size
            file = LayerFile(path, header.size, self._index)
        parent = self._directory(folder)
        self._remove(folder, base)
        parent[base] = file

    def _directory(self, parts: list[bytes]) -> _Directory:
        directory = self._root
        for part in parts:
            child = directory.get(part)
            if not isinstance(child, dict):
                if child is not None:
                    self._hide(child)
                child = directory[part] = {}
            directory = child
        return directory

    def _find(self, parts: list[bytes]) -> LayerFile | _Directory | None:
        found: LayerFile | _Directory | None = self._root
        for part in parts:
            if not isinstance(found, dict):
                return None
            found = found.get(part)
        return found

    def _hide_lower(self, folder: list[bytes], base: bytes) -> None:
        """Hide what lower layers have at a path. What this layer adds stays, in any order."""
        directory = self._root if not base else self._find(folder)
        if not isinstance(directory, dict):
            return
        pending = [
            (directory, name) for name in (list(directory) if not base else [base]) if name in directory
        ]
        while pending:
            parent, name = pending.pop()
            child = parent[name]
            if isinstance(child, dict):
                pending += ((child, inner) for inner in child)
            elif child.layer != self._index:
                del parent[name]
                self._hide(child)

    def _remove(self, folder: list[bytes], base: bytes) -> None:
        directory = self._find(folder)
        if not isinstance(directory, dict):
            return
        removed = directory.pop(base, None)
        if isinstance(removed, dict):
            for file in _files(removed):
                self._hide(file)
        elif removed is not None:
            self._hide(removed)

    def _hide(self, file: LayerFile) -> None:
        file.names -= 1
        if file.names:
            return
        layer = self.layers[file.layer]
        layer.hidden_files += 1
        layer.hidden_size += file.size
        self._hidden += 1
        if file.size:
            # The number decides between files of the same size: the first one wins.
            entry = (file.size, -self._hidden, Hidden(file, self._index))
            if len(self._largest_hidden) < _KEPT:
                heapq.heappush(self._largest_hidden, entry)
            else:
                heapq.heappushpop(self._largest_hidden, entry)


def _files(directory: _Directory) -> Iterator[LayerFile]:
    pending = [directory]
    while pending:
        for child in pending.pop().values():
            if isinstance(child, dict):
                pending.append(child)
            else:
                yield child


def _split(parts: list[bytes]) -> tuple[list[bytes], bytes]:
    return parts[:-1], parts[-1] if parts else b""


def _parts(path: bytes) -> list[bytes]:
    """The components of a path from the root. ``..`` does not lead above it."""
    return [part for part in posixpath.normpath(b"/" + path.lstrip(b"/")).split(b"/") if part]
