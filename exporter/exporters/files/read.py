"""Reading files of a ref, such as those with attestations."""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from exporter.content.threads import run_in_thread
from exporter.errors import InvalidArgumentError
from exporter.exporters.files.entry import FileEntry
from exporter.exporters.files.opening import check_entries
from exporter.layer.files import LayerFiles
from exporter.layer.tree import FileTree, Inode, Kind, Name
from exporter.source.files import FilesRef, RefTree
from exporter.source.types import Ref

__all__ = ["RefFiles"]


class RefFiles:
    """The files of a ref; created by `open`.

    Args:
        tree: Their names and attributes.
        read: Reads the content of a file in `tree`.
    """

    def __init__(self, tree: FileTree, read: Callable[[Inode], AsyncIterator[bytes]]) -> None:
        self._tree = tree
        self._read = read

    @classmethod
    @asynccontextmanager
    async def open(cls, ref: Ref, scratch: Path) -> AsyncIterator[RefFiles]:
        """Open the files of a ref, until the block ends. If its owner sends them, only those that are read.

        Args:
            ref: The ref.
            scratch: A directory for a temporary file.

        Raises:
            NotFoundError: the ref or a layer no longer exists.
            DataLossError: a layer does not match its descriptor.
        """
        if isinstance(ref, FilesRef):
            async with ref.files(scratch) as sent:
                if sent is not None:
                    await run_in_thread(check_entries, sent.entries)
                    yield cls(_tree_of(sent.entries), partial(_fetched, sent))
                    return
        with await LayerFiles.unpack(await ref.remote(), scratch=scratch) as files:
            yield cls(files.tree, files.read)

    async def read(self, path: str, *, limit: int) -> bytes:
        """Read a file of at most `limit` bytes. Links are resolved within the ref.

        Raises:
            InvalidArgumentError: it is larger, or not a regular file.
            NotFoundError: it does not exist.
        """
        inode = self._tree.find(_to_bytes(path))
        if inode.kind is not Kind.FILE:
            raise InvalidArgumentError(f"{path} is not a regular file")
        if inode.size > limit:
            raise InvalidArgumentError(f"{path} exceeds {limit} bytes")
        return b"".join([data async for data in self._read(inode)])

    async def read_directory(self, path: str, *, limit: int) -> dict[str, bytes]:
        """Read all files in a directory, by name; see `read`.

        Raises:
            InvalidArgumentError: a file cannot be read, or the path is not a directory.
            NotFoundError: there is no such directory.
        """
        directory = self._tree.find(_to_bytes(path))
        if directory.kind is not Kind.DIRECTORY:
            raise InvalidArgumentError(f"{path} is not a directory")
        names = [name.decode("utf-8", "surrogateescape") for name in sorted(directory.children)]
        return {name: await self.read(posixpath.join(path, name), limit=limit) for name in names}


def _tree_of(entries: Sequence[FileEntry]) -> FileTree:
    """The tree of entries that have been checked. `Inode.content` is the position of the file's entry."""
    tree = FileTree()
    inodes = {b"": tree.root}
    for position, entry in enumerate(entries):
        if entry.is_hard_link:
            inode = inodes[entry.link]
        else:
            target = entry.link if entry.kind is Kind.SYMLINK else b""
            inode = Inode(entry.kind, size=entry.size, content=position, target=target)
        inode.names += 1
        folder, _, name = entry.path.rpartition(b"/")
        inodes[folder].children[name] = Name(inode, 0)
        inodes[entry.path] = inode
    return tree


async def _fetched(sent: RefTree, inode: Inode) -> AsyncIterator[bytes]:
    entry = sent.entries[inode.content]
    await sent.fetch([entry])
    yield await run_in_thread(lambda: b"".join(entry.content.pieces()))


def _to_bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
