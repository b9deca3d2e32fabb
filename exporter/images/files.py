"""The merged file system of an image."""

from __future__ import annotations

import fnmatch
from collections.abc import AsyncIterator, Iterator, Sequence

from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.images.difference import tree_entry
from exporter.layer.entry import FileEntry
from exporter.layer.files import LayerFiles
from exporter.layer.tree import Inode, Kind

_READ_LIMIT = 64 << 20


class ImageFiles:
    """The files of an image as a container sees them. Opened by `Image.files`.

    Paths are text, relative to the root, with or without a leading slash. Bytes that are not UTF-8 become
    surrogates, as in `os.fsdecode`. Symbolic links are resolved within the image.
    """

    def __init__(self, files: LayerFiles) -> None:
        self._files = files

    def __iter__(self) -> Iterator[FileEntry]:
        """All files except the root, in walk order. Further names of a file are hard links to its first."""
        first_names: dict[Inode, bytes] = {}
        for path, inode in self._files.tree.walk():
            link = b""
            if inode.names > 1 and inode.kind not in {Kind.DIRECTORY, Kind.SYMLINK}:
                first = first_names.setdefault(inode, path)
                link = b"" if first is path else first
            yield tree_entry(self._files, path, inode, link)

    def find(self, pattern: str) -> Iterator[FileEntry]:
        """The files whose path matches a glob pattern, in walk order.

        ``*`` and ``?`` match within one component, ``**`` any number of components: ``**/*.so``,
        ``etc/os-release``, ``usr/share/doc/*/copyright``. Links are not followed.
        """
        wanted = pattern.strip("/").split("/")
        return (entry for entry in self if _matches(wanted, _to_text(entry.path).split("/")))

    def stat(self, path: str, *, follow: bool = True) -> FileEntry:
        """Look up a file.

        Args:
            path: Its path.
            follow: Whether to follow a symbolic link in the last component.

        Raises:
            InvalidArgumentError: there are too many symbolic links.
            NotFoundError: the path does not exist.
        """
        return tree_entry(self._files, _to_bytes(path), self._files.tree.find(_to_bytes(path), follow=follow))

    def exists(self, path: str) -> bool:
        """Whether a path exists, after resolving links."""
        try:
            self._files.tree.find(_to_bytes(path))
        except (NotFoundError, InvalidArgumentError):
            return False
        return True

    def open(self, path: str) -> AsyncIterator[bytes]:
        """Stream a file's content, in pieces of bounded size.

        Raises:
            InvalidArgumentError: the path is not a regular file.
            NotFoundError: the path does not exist.
        """
        inode = self._files.tree.find(_to_bytes(path))
        if inode.kind is not Kind.FILE:
            raise InvalidArgumentError(f"{path} is not a regular file")
        return self._files.read(inode)

    async def read(self, path: str, *, limit: int = _READ_LIMIT) -> bytes:
        """Read a whole file.

        Args:
            path: Its path.
            limit: Maximum size in bytes.

        Raises:
            InvalidArgumentError: the file is larger than `limit`, or is not a regular file.
            NotFoundError: the path does not exist.
        """
        if (size := self.stat(path).size) > limit:
            raise InvalidArgumentError(f"{path} has {size} bytes; the limit is {limit}")
        return b"".join([data async for data in self.open(path)])


def _matches(pattern: Sequence[str], path: Sequence[str]) -> bool:
    """Whether a path matches, both split into components."""
    if not pattern:
        return not path
    first, *rest = pattern
    if first == "**":
        return any(_matches(rest, path[start:]) for start in range(len(path) + 1))
    return bool(path) and fnmatch.fnmatchcase(path[0], first) and _matches(rest, path[1:])


def _to_bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _to_text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
