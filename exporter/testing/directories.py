"""Refs whose files are a directory of this machine, as a daemon mounts its refs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from exporter.content.threads import run_in_thread
from exporter.daemon.fsutil.local_files import LocalWalk, Selection
from exporter.errors import FailedPreconditionError
from exporter.image import CompressionConfig
from exporter.source.files import Content, FileEntry, RefTree
from exporter.source.types import LayerChain, Remote

__all__ = ["DirectoryRef"]


class DirectoryRef:
    """A ref that has files, but no layers. Serve it with `exporter.daemon.services.refs.RefServicer`.

    Args:
        ref_id: Its ID.
        path: The directory, which must not change.
    """

    def __init__(self, ref_id: str, path: Path) -> None:
        self._id = ref_id
        self._path = path

    @property
    def id(self) -> str:
        """See `Ref.id`."""
        return self._id

    async def remote(self, compression: CompressionConfig | None = None) -> Remote:
        """See `Ref.remote`.

        Raises:
            FailedPreconditionError: always, because it has no layers.
        """
        raise FailedPreconditionError(f"ref {self._id} has no layers")

    async def layer_chain(self) -> LayerChain:
        """See `Ref.layer_chain`.

        Raises:
            FailedPreconditionError: always, because it has no layers.
        """
        raise FailedPreconditionError(f"ref {self._id} has no layers")

    @asynccontextmanager
    async def files(self, scratch: Path) -> AsyncIterator[RefTree | None]:
        """See `FilesRef.files`."""
        yield _Tree(await run_in_thread(self._list))

    def opened(self, entry: FileEntry) -> None:
        """Do nothing. Called before the content of a file is read; for tests that count."""

    def _list(self) -> list[FileEntry]:
        return [self._with_owner(entry) for entry in LocalWalk(self._path.resolve(), Selection()).entries()]

    def _with_owner(self, entry: FileEntry) -> FileEntry:
        """Build contexts have no owners, but refs do."""
        info = (self._path / entry.path.decode("utf-8", "surrogateescape")).lstat()
        return replace(entry, uid=info.st_uid, gid=info.st_gid, content=_Watched(entry, entry.content, self))


@dataclass(frozen=True, slots=True)
class _Tree:
    """See `RefTree`. Contents are read from the directory."""

    entries: Sequence[FileEntry]

    async def fetch(self, entries: Iterable[FileEntry]) -> None:
        """See `RefTree.fetch`."""


@dataclass(frozen=True, slots=True)
class _Watched:
    entry: FileEntry
    content: Content
    ref: DirectoryRef

    def pieces(self) -> Iterator[bytes]:
        """See `Content.pieces`."""
        self.ref.opened(self.entry)
        yield from self.content.pieces()
