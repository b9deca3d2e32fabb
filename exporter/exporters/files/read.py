"""Reading files of a ref, such as those with attestations."""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from exporter.errors import InvalidArgumentError
from exporter.layer.files import LayerFiles
from exporter.layer.tree import Kind
from exporter.source.types import Ref

__all__ = ["RefFiles"]


class RefFiles:
    """The files of a ref; created by `open`."""

    def __init__(self, files: LayerFiles) -> None:
        self._files = files

    @classmethod
    @asynccontextmanager
    async def open(cls, ref: Ref, scratch: Path) -> AsyncIterator[RefFiles]:
        """Unpack the files of a ref into `scratch`, until the block ends.

        Raises:
            NotFoundError: the ref or a layer no longer exists.
            DataLossError: a layer does not match its descriptor.
        """
        with await LayerFiles.unpack(await ref.remote(), scratch=scratch) as files:
            yield cls(files)

    async def read(self, path: str, *, limit: int) -> bytes:
        """Read a file of at most `limit` bytes. Links are resolved within the ref.

        Raises:
            InvalidArgumentError: it is larger, or not a regular file.
            NotFoundError: it does not exist.
        """
        inode = self._files.tree.find(_to_bytes(path))
        if inode.kind is not Kind.FILE:
            raise InvalidArgumentError(f"{path} is not a regular file")
        if inode.size > limit:
            raise InvalidArgumentError(f"{path} exceeds {limit} bytes")
        return b"".join([data async for data in self._files.read(inode)])

    async def read_directory(self, path: str, *, limit: int) -> dict[str, bytes]:
        """Read all files in a directory, by name; see `read`.

        Raises:
            InvalidArgumentError: a file cannot be read, or the path is not a directory.
            NotFoundError: there is no such directory.
        """
        directory = self._files.tree.find(_to_bytes(path))
        if directory.kind is not Kind.DIRECTORY:
            raise InvalidArgumentError(f"{path} is not a directory")
        names = [name.decode("utf-8", "surrogateescape") for name in sorted(directory.children)]
        return {name: await self.read(posixpath.join(path, name), limit=limit) for name in names}


def _to_bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
