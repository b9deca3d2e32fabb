"""The files of a ref, unpacked from its layers for random access.

Layers are streams, and compressed ones have no random access. So they are unpacked once: contents into one
temporary file, attributes into a `FileTree`. Memory grows with the number of files, but not with their size.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from exporter.content.threads import run_in_thread
from exporter.errors import InvalidArgumentError, naming
from exporter.image import Descriptor
from exporter.layer.compression.detect import open_layer
from exporter.layer.entry import BytesContent, Content
from exporter.layer.gotar import TarReader, TypeFlag
from exporter.layer.limits import MAX_CONTENT_BYTES, check_content
from exporter.layer.pipe import discard, run_piped
from exporter.layer.streams import PIECE_SIZE, Readable, Writable, drain
from exporter.layer.tree import FileTree, Inode, Kind
from exporter.layer.verifying import verified
from exporter.source.types import Remote

_HINT = " (--max-content-bytes)"


class LayerFiles:
    """The files of a ref; created by `unpack`. Use it as a context manager, because it owns a temporary file.

    Attributes:
        tree: The files' names and attributes.
        lower: The tree that only the lowest layers make; see the parameter `keep` of `unpack`.
    """

    def __init__(self, tree: FileTree, contents: BinaryIO) -> None:
        self.tree = tree
        self.lower: FileTree | None = None
        self._contents = contents

    @classmethod
    async def unpack(
        cls, remote: Remote, *, scratch: Path, max_size: int = MAX_CONTENT_BYTES, keep: int | None = None
    ) -> Self:
        """Unpack layers.

        Args:
            remote: The layers, base first.
            scratch: A directory for the temporary file, which needs as much space as the files.
            max_size: Maximum total size of the files in bytes, including holes and files that later layers
                replace or delete. A layer of a few KiB can claim a sparse file of many TiB.
            keep: Also keep the tree of that many of the lowest layers, as `lower`.

        Raises:
            DataLossError: a layer does not match its descriptor.
            InvalidArgumentError: a layer has an unknown type, or its tar is malformed or inconsistent.
            NotFoundError: a layer no longer exists.
            ResourceExhaustedError: the files exceed `max_size`; names the file.
        """
        with ExitStack() as stack:
            file = stack.enter_context(await run_in_thread(_temporary_file, scratch))
            files = cls(FileTree(), file)
            unpacking = _Unpacking(files.tree, file, scratch, max_size)
            with ThreadPoolExecutor(1, "unpack") as executor:
                for position, layer in enumerate(remote.descriptors):
                    if position == keep:
                        files.lower = await run_in_thread(files.tree.copy)
                    source = remote.provider.read(layer.digest)
                    await run_piped(partial(unpacking.run, layer), source, discard, executor)
            stack.pop_all()
        return files

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete the temporary file."""
        self._contents.close()

    async def read(self, inode: Inode, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Stream a file's content, or a part of it.

        Raises:
            InvalidArgumentError: it is not a regular file.
        """
        for start, size in _ranges(inode, offset, length):
            yield await run_in_thread(self._read_at, inode, start, size)

    def pieces(self, inode: Inode) -> Iterator[bytes]:
        """Like `read`, but blocking, for use in threads.

        Raises:
            InvalidArgumentError: it is not a regular file.
        """
        for start, size in _ranges(inode, 0, None):
            yield self._read_at(inode, start, size)

    def content(self, inode: Inode) -> Content:
        """The content of an inode, for a `FileEntry`; empty if it is not a regular file."""
        return _InodeContent(self, inode) if inode.kind is Kind.FILE else BytesContent(b"")

    def _read_at(self, inode: Inode, start: int, size: int) -> bytes:
        return os.pread(self._contents.fileno(), size, inode.content + start)


@dataclass(frozen=True, slots=True)
class _InodeContent:
    files: LayerFiles
    inode: Inode

    def pieces(self) -> Iterator[bytes]:
        return self.files.pieces(self.inode)


def _ranges(inode: Inode, offset: int, length: int | None) -> Iterator[tuple[int, int]]:
    """The offsets and sizes of the reads for a part of a file."""
    if inode.kind is not Kind.FILE:
        raise InvalidArgumentError(f"only files have content, not a {inode.kind.name.lower()}")
    end = inode.size if length is None else min(inode.size, offset + length)
    for start in range(offset, end, PIECE_SIZE):
        yield start, min(PIECE_SIZE, end - start)


def _temporary_file(directory: Path) -> BinaryIO:
    return tempfile.TemporaryFile(dir=directory)


class _Unpacking:
    """Unpacks layers, in a thread."""

    def __init__(self, tree: FileTree, contents: BinaryIO, scratch: Path, max_size: int) -> None:
        self._tree = tree
        self._contents = contents
        self._scratch = scratch
        self._max_size = max_size
        self._position = 0

    def run(self, layer: Descriptor, source: Readable, sink: Writable) -> None:
        self._tree.begin_layer()
        with verified(source, layer) as blob:
            tar = open_layer(blob, layer.media_type)
            reader = TarReader(tar)
            while (header := reader.next()) is not None:
                if header.typeflag == TypeFlag.REG:
                    total = self._position + header.size
                    check_content(header.name, header.size, total, self._max_size, _HINT)
                self._tree.apply(header, self._position)
                if header.typeflag == TypeFlag.REG:
                    self._copy(reader, sink)
            drain(tar)
        with naming(self._scratch):
            self._contents.truncate()  # there may be a hole at the end
            self._contents.flush()

    def _copy(self, reader: TarReader, sink: Writable) -> None:
        while data := reader.read(PIECE_SIZE):
            self._position += len(data)
            if data.count(0) == len(data):
                self._contents.seek(self._position)  # leaves a hole
            else:
                with naming(self._scratch):
                    self._contents.write(data)
            # Filling the holes of a sparse file consumes no input. This write lets cancellation interrupt it.
            sink.write(b"")
