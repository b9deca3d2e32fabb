"""One file of an artifact that is made of files: what ``tar`` and ``local`` write, entry by entry.

Mirrors the ``Stat`` of fsutil, which is how BuildKit's exporters see files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from exporter.layer.tree import Kind

__all__ = ["BytesContent", "Content", "FileEntry"]


class Content(Protocol):
    """What is in a file."""

    def pieces(self) -> Iterator[bytes]:
        """Give the content, piece by piece; from the start, as often as it is called. Blocks."""
        ...


@dataclass(frozen=True, slots=True)
class BytesContent:
    """Content that is in memory."""

    data: bytes

    def pieces(self) -> Iterator[bytes]:
        """See `Content.pieces`."""
        yield self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A file, directory, link or device under a path.

    In a sequence of entries directories come before what is in them, and names are in the order of their
    bytes.

    Attributes:
        path: From the root, without a slash at the start.
        kind: What it is.
        mode: Permissions, set-ID and sticky bits.
        mtime: When it was modified, in nanoseconds since 1970.
        size: Bytes of a file's content; of a symbolic link's target.
        link: The target of a symbolic link; of a hard link the path of an earlier entry, which is the same
            file.
        devmajor: Of a device; likewise `devminor`.
        content: Of a file; not looked at for hard links.
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
        """A file whose content is in memory."""
        name = path.encode("utf-8", "surrogateescape")
        return cls(path=name, mode=mode, mtime=mtime, size=len(data), content=BytesContent(data))

    @property
    def is_hard_link(self) -> bool:
        """Whether it is another name of an earlier entry."""
        return bool(self.link) and self.kind is not Kind.SYMLINK

    @property
    def has_content(self) -> bool:
        """Whether it is a file, and the first name of it."""
        return self.kind is Kind.FILE and not self.link

    @property
    def key(self) -> bytes:
        """Its place in a sequence: paths compare name by name, not as strings."""
        return self.path.replace(b"/", b"\x00")


def shown(path: bytes) -> str:
    """A path, for messages."""
    return path.decode("utf-8", "backslashreplace")
