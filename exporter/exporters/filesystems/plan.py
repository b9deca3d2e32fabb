"""What to make: the options of a file system, and the files in it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from exporter.layer.entry import FileEntry

__all__ = ["SECOND", "FileSystemPlan", "image_uuid"]

SECOND = 10**9
_BEFORE_ALL_TIMES = -(10**10) * SECOND
"""Directories that no layer has, only their contents, have Go's zero time: the year 1."""


@dataclass(frozen=True, slots=True)
class FileSystemPlan:
    """A file system.

    Attributes:
        scratch: A directory for temporary files.
        time: The time of the file system itself and its root, in seconds since 1970; more than 0.
        uuid: Its UUID.
        label: Its label; empty for none.
        size: Its size in bytes; 0 for as much as the files need.
        compression: The compression of its files; empty for the default.
    """

    scratch: Path
    time: int
    uuid: uuid.UUID
    label: str = ""
    size: int = 0
    compression: str = ""

    def entries(self, entries: Iterable[FileEntry], earliest: int, latest: int) -> Iterator[FileEntry]:
        """The files, with modification times that the file system can represent.

        Args:
            entries: The files of the image.
            earliest: The earliest time, in seconds since 1970.
            latest: The latest time.
        """
        for entry in entries:
            if entry.mtime < _BEFORE_ALL_TIMES:
                yield replace(entry, mtime=self.time * SECOND)
            else:
                mtime = max(earliest * SECOND, min(entry.mtime, latest * SECOND))
                yield entry if mtime == entry.mtime else replace(entry, mtime=mtime)


def image_uuid(digest: str) -> uuid.UUID:
    """A UUID that depends only on a digest."""
    return uuid.UUID(bytes=bytes.fromhex(digest.partition(":")[2])[:16], version=5)
