"""Reading blobs from files."""

from __future__ import annotations

import abc
import os
import stat
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from exporter.content.protocol import BlobInfo
from exporter.content.threads import run_in_thread
from exporter.content.verify import split_digest
from exporter.errors import FailedPreconditionError, NotFoundError
from exporter.image import ImageError, parse_digest

CHUNK_SIZE = 1 << 20
"""Bytes per chunk, large enough that reading and hashing outweigh a thread switch (some 50 µs)."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, without ever waiting for the writer of a pipe. Blocks.

    Raises:
        FileNotFoundError: there is no such file.
        FailedPreconditionError: it is a directory, a pipe or a device.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise FailedPreconditionError(f"{path} is not a regular file")
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def read_file(path: Path, limit: int) -> bytes:
    """Read a whole small file. Blocks.

    Raises:
        FileNotFoundError: there is no such file.
        FailedPreconditionError: it is not a regular file, or has more than `limit` bytes.
    """
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise FailedPreconditionError(f"{path} is too large: the limit for such a file is {limit} bytes")
    return data


class _FileBacked(abc.ABC):
    """A provider whose blobs are files."""

    @abc.abstractmethod
    def path_of(self, digest: str) -> Path:
        """The file that holds the blob, or would hold it.

        Raises:
            NotFoundError: there cannot be such a file.
        """

    async def info(self, digest: str) -> BlobInfo:
        """See `Provider.info`."""
        return await run_in_thread(self.stat, digest)

    async def infos(self, digests: Sequence[str]) -> dict[str, BlobInfo]:
        """See `BulkProvider.infos`."""
        return await run_in_thread(self.stat_all, digests)

    def stat_all(self, digests: Sequence[str]) -> dict[str, BlobInfo]:
        """Like `infos`, but blocking."""
        found = {}
        for digest in digests:
            with suppress(NotFoundError):
                found[digest] = self.stat(digest)
        return found

    def stat(self, digest: str) -> BlobInfo:
        """Like `info`, but blocking."""
        path = self.path_of(digest)
        try:
            result = path.stat()
        except FileNotFoundError:
            raise _not_found(digest) from None
        if not stat.S_ISREG(result.st_mode):
            raise FailedPreconditionError(f"{path} is not a regular file")
        return BlobInfo(digest, result.st_size)

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See `Provider.read`."""
        part = _FilePart(self.path_of(digest), offset, length)
        try:
            while data := await run_in_thread(part.read):
                yield data
        except FileNotFoundError:
            raise _not_found(digest) from None
        finally:
            part.close()


class FileProvider(_FileBacked):
    """A provider of individual files.

    Args:
        paths: The files by digest; the digests are not verified.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths

    def path_of(self, digest: str) -> Path:
        """The file that holds the blob.

        Raises:
            NotFoundError: none of the files has this digest.
        """
        try:
            return self._paths[digest]
        except KeyError:
            raise _not_found(digest) from None


class BlobDirectory(_FileBacked):
    """A directory of blobs by algorithm and digits, such as the ``blobs`` of an OCI layout."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path_of(self, digest: str) -> Path:
        """The file that holds the blob, or would hold it.

        Raises:
            InvalidArgumentError: `digest` is not a digest.
        """
        algorithm, encoded = split_digest(digest)
        return self.root / algorithm / encoded

    def list(self) -> Iterator[BlobInfo]:
        """All blobs, in no particular order. Blocks."""
        for algorithm in _entries(self.root):
            if not algorithm.is_dir():
                continue
            for entry in _entries(Path(algorithm.path)):
                digest = f"{algorithm.name}:{entry.name}"
                try:
                    parse_digest(digest)
                    yield self.stat(digest)
                except (ImageError, NotFoundError):
                    continue  # not a blob, or removed in the meantime


class _FilePart:
    """A part of a file, read in chunks. All calls block."""

    def __init__(self, path: Path, offset: int, length: int | None) -> None:
        self._path = path
        self._offset = offset
        self._left = length
        self._file: BinaryIO | None = None

    def read(self) -> bytes:
        """The next chunk; empty at the end."""
        if self._file is None:
            self._file = open_regular(self._path)
            self._file.seek(self._offset)
        data = self._file.read(CHUNK_SIZE if self._left is None else min(CHUNK_SIZE, self._left))
        if self._left is not None:
            self._left -= len(data)
        return data

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _not_found(digest: str) -> NotFoundError:
    return NotFoundError(f"blob {digest} not found")
