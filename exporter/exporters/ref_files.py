"""Reading a few files of a ref, out of its layers."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from exporter.content.protocol import Provider
from exporter.errors import InvalidArgumentError
from exporter.exporters.blobs import read_verified
from exporter.exporters.file_tree import FileTree, Kind, Node, clean_path
from exporter.image import Descriptor
from exporter.layer.detect import open_layer
from exporter.layer.gotar import TarReader
from exporter.layer.pipe import run_piped
from exporter.layer.streams import PIECE_SIZE, Readable, Writable, drain
from exporter.source.types import Ref, Remote

__all__ = ["RefFiles", "layer_paths"]

T = TypeVar("T")


class RefFiles:
    """The files of a ref; made by `open`.

    Opening reads all layers once, and reading a file reads its layer again: this is for refs that are small,
    such as those of attestations.
    """

    def __init__(self, remote: Remote, tree: FileTree) -> None:
        self._remote = remote
        self._tree = tree

    @classmethod
    async def open(cls, ref: Ref) -> RefFiles:
        """Find out which files there are.

        Raises:
            NotFoundError: the ref or a layer is gone.
            DataLossError: a layer is not what its descriptor says.
        """
        remote = await ref.remote()
        tree = FileTree()
        for position, layer in enumerate(remote.descriptors):
            await _scan(remote.provider, layer, partial(_apply, tree, position))
        return cls(remote, tree)

    async def read(self, path: str, *, limit: int) -> bytes:
        """Read a file of at most `limit` bytes.

        Raises:
            InvalidArgumentError: it is longer, or no regular file.
            NotFoundError: there is none.
        """
        return (await self._read_nodes({path: self._tree.find(path)}, limit))[path]

    async def read_directory(self, path: str, *, limit: int) -> dict[str, bytes]:
        """Read all files of a directory, by name.

        Raises:
            InvalidArgumentError: one is longer than `limit` bytes or no regular file, or the path is no
                directory.
            NotFoundError: there is no such directory.
        """
        nodes = {posixpath.join(path, name): node for name, node in self._tree.list(path).items()}
        contents = await self._read_nodes(nodes, limit)
        return {posixpath.basename(name): data for name, data in contents.items()}

    async def _read_nodes(self, nodes: Mapping[str, Node], limit: int) -> dict[str, bytes]:
        for path, node in nodes.items():
            if node.kind is not Kind.FILE:
                raise InvalidArgumentError(f"{path} is not a regular file")
        contents: dict[str, bytes] = {}
        for position in sorted({node.layer for node in nodes.values()}):
            wanted = {path: node.entry for path, node in nodes.items() if node.layer == position}
            layer = self._remote.descriptors[position]
            entries = await _scan(
                self._remote.provider, layer, partial(_extract, frozenset(wanted.values()), limit)
            )
            for path, entry in wanted.items():
                data = entries[entry]
                if data is None:
                    raise InvalidArgumentError(f"{path} exceeds {limit} bytes")
                contents[path] = data
        return contents


async def layer_paths(provider: Provider, layer: Descriptor) -> list[str]:
    """The paths in a layer, absolute, whiteouts included.

    Raises:
        DataLossError: the layer is not what its descriptor says.
        NotFoundError: it is gone.
    """
    return await _scan(provider, layer, _paths)


async def _scan(provider: Provider, layer: Descriptor, visit: Callable[[TarReader], T]) -> T:
    """Let `visit` read a layer's tar, in a thread."""

    def work(source: Readable, sink: Writable) -> T:
        tar = open_layer(source, layer.media_type)
        result = visit(TarReader(tar))
        # To the end, or the blob would go unverified.
        drain(tar)
        return result

    async def discard(_: bytes) -> None:
        return None

    with ThreadPoolExecutor(max_workers=1) as executor:
        return await run_piped(work, read_verified(provider, layer), discard, executor)


def _apply(tree: FileTree, position: int, reader: TarReader) -> None:
    entry = 0
    while (header := reader.next()) is not None:
        tree.apply(header, position, entry)
        entry += 1


def _paths(reader: TarReader) -> list[str]:
    paths = []
    while (header := reader.next()) is not None:
        paths.append(clean_path(header.name.decode("utf-8", "surrogateescape")))
    return paths


def _extract(wanted: frozenset[int], limit: int, reader: TarReader) -> dict[int, bytes | None]:
    """The contents of some entries; None for one that is longer than `limit` bytes."""
    contents: dict[int, bytes | None] = {}
    entry = 0
    while len(contents) < len(wanted) and reader.next() is not None:
        if entry in wanted:
            contents[entry] = _read_limited(reader, limit)
        entry += 1
    return contents


def _read_limited(reader: TarReader, limit: int) -> bytes | None:
    pieces: list[bytes] = []
    size = 0
    while data := reader.read(PIECE_SIZE):
        pieces.append(data)
        size += len(data)
        if size > limit:
            return None
    return b"".join(pieces)
