"""Files with their paths: in refs, in outputs of ``tar`` and ``local``, and in layers that are written here.

Mirrors fsutil's ``Stat``, with which BuildKit's exporters describe files.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from exporter.source.types import Ref

__all__ = ["BytesContent", "Content", "FileEntry", "FilesRef", "Kind", "RefTree", "shown"]


class Kind(enum.Enum):
    """The kind of an inode."""

    FILE = enum.auto()
    DIRECTORY = enum.auto()
    SYMLINK = enum.auto()
    CHARACTER_DEVICE = enum.auto()
    BLOCK_DEVICE = enum.auto()
    FIFO = enum.auto()


class Content(Protocol):
    """The content of a file."""

    def pieces(self) -> Iterator[bytes]:
        """Iterate over the content in pieces; each call starts from the beginning. Blocks."""
        ...


@dataclass(frozen=True, slots=True)
class BytesContent:
    """Content in memory."""

    data: bytes

    def pieces(self) -> Iterator[bytes]:
        """See `Content.pieces`."""
        yield self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A file, directory, link or device with its path.

    In a sequence of entries, directories come before their contents, and names are sorted by their bytes.

    Attributes:
        path: The path from the root, without a leading slash.
        kind: The kind of entry.
        mode: Permissions, set-ID and sticky bits.
        mtime: Modification time in nanoseconds since 1970.
        size: The size in bytes of a file's content, or of a symbolic link's target.
        link: The target of a symbolic link; for a hard link, the path of an earlier entry for the same file.
        devmajor: The major number of a device; likewise `devminor`.
        content: The content of a file; ignored for hard links.
    """

    path: bytes
    kind: Kind = Kind.FILE
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    link: bytes = b""
    devmajor: int = 0
    devminor: int = 0
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    content: Content = BytesContent(b"")

    @classmethod
    def of(cls, path: str, data: bytes, *, mode: int = 0o644, mtime: int = 0) -> FileEntry:
        """A file with content in memory."""
        name = path.encode("utf-8", "surrogateescape")
        return cls(path=name, mode=mode, mtime=mtime, size=len(data), content=BytesContent(data))

    @property
    def is_hard_link(self) -> bool:
        """Whether it is another name of an earlier entry."""
        return bool(self.link) and self.kind is not Kind.SYMLINK

    @property
    def has_content(self) -> bool:
        """Whether it is a file, but not a hard link."""
        return self.kind is Kind.FILE and not self.link

    @property
    def key(self) -> bytes:
        """The sort key in a sequence: paths compare component by component, not as strings."""
        return self.path.replace(b"/", b"\x00")


def shown(path: bytes) -> str:
    """A path as text, for messages."""
    return path.decode("utf-8", "backslashreplace")


class RefTree(Protocol):
    """The files of a ref. They are listed at once; contents are fetched on demand."""

    @property
    def entries(self) -> Sequence[FileEntry]:
        """The files, in order."""
        ...

    async def fetch(self, entries: Iterable[FileEntry]) -> None:
        """Fetch the contents of some of `entries`, which can be read after that. Each is fetched once.

        Raises:
            DataLossError: the length of a content differs from the announced one.
            UnavailableError: the owner of the ref is gone.
        """
        ...


@runtime_checkable
class FilesRef(Ref, Protocol):
    """A ref whose owner may send its files, so that no layers are needed to read them."""

    def files(self, scratch: Path) -> AbstractAsyncContextManager[RefTree | None]:
        """Open the files; None if the owner does not send any, and layers have to be used.

        Args:
            scratch: A directory for a temporary file with the contents.

        Raises:
            NotFoundError: the owner does not know the ref, or no longer does.
        """
        ...
