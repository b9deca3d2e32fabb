"""An OCI image layout as a content store: the embedded default store, and the output of ``tar=false``."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from exporter.content.copy import load_graph, missing_blobs
from exporter.content.files import BlobDirectory, read_file
from exporter.content.index import LayoutIndex
from exporter.content.journal import Journals
from exporter.content.layout_writer import LayoutWriter
from exporter.content.lock import LOCK_TIMEOUT, FileLock, call_locked, file_locks
from exporter.content.protocol import BlobInfo, BlobWriter
from exporter.content.publishing import IndexFile, Publication, Publisher
from exporter.content.staging import Staging, replace_file, sync_directory
from exporter.content.threads import run_in_thread
from exporter.content.verify import Verifier
from exporter.errors import FailedPreconditionError, NotFoundError
from exporter.image import Descriptor, ImageError
from exporter.image.go import json as gojson

T = TypeVar("T")

_LAYOUT_VERSION = "1.0.0"
STAGING_NAME = ".buildkit-exporter"
"""The directory for unfinished files; all that is left of a layout whose creator was killed at once."""

_LAYOUT = gojson.Struct("v1.ImageLayout", {"imageLayoutVersion": gojson.String()})
_SMALL_FILE = 64 << 20


def default_root() -> Path:
    """Like `default_root_path`, but create the directory if missing, accessible only to the user. Blocks.

    Raises:
        FailedPreconditionError: the user has no home directory.
        OSError: it cannot be created.
    """
    root = default_root_path()
    root.parent.mkdir(parents=True, exist_ok=True)
    root.mkdir(mode=0o700, exist_ok=True)
    return root


def default_root_path() -> Path:
    """The default root directory of the command line and the server.

    The user's data directory (XDG Base Directory Specification): ``$XDG_DATA_HOME/buildkit-exporter``, or
    ``~/.local/share/buildkit-exporter``.

    Raises:
        FailedPreconditionError: the user has no home directory.
    """
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not data.is_absolute():  # the specification says to ignore relative paths
        try:
            data = Path.home() / ".local" / "share"
        except RuntimeError as error:
            raise FailedPreconditionError(
                f"{error}; choose a root directory, or set XDG_DATA_HOME"
            ) from error
    return data / "buildkit-exporter"


class OCILayout:
    """An OCI image layout in a directory that other processes, including other tools, may use concurrently.

    A blob appears under its digest only after it has been written, verified and synced to disk.
    ``index.json`` is replaced atomically, under a lock that BuildKit's client also takes. Unfinished files
    are in a hidden directory that exists only during writes.

    The constructor blocks briefly and removes what killed writers left behind; on an event loop, use `open`.

    Args:
        path: The directory. It becomes a layout if it is empty or does not exist.
        create: Whether to create a layout if there is none.

    Raises:
        FailedPreconditionError: the directory holds something else, or a layout of an unknown version.
        NotFoundError: there is no layout, and `create` is false.
    """

    def __init__(self, path: Path | str, *, create: bool = True) -> None:
        self.path = Path(path)
        self._blobs = BlobDirectory(self.path / "blobs")
        self.staging = Staging(self.path / STAGING_NAME)
        self.journals = Journals(self.staging)
        self._index = IndexFile(self._index_path, self.staging)
        self._publisher = Publisher(self._index, self._locked_for_publishing, self._check_complete)
        self._prepare(create=create)
        self.staging.remove_stale()

    @classmethod
    async def open(cls, path: Path | str, *, create: bool = True) -> OCILayout:
        """Create an instance without blocking the event loop."""
        return await run_in_thread(cls, path, create=create)

    async def info(self, digest: str) -> BlobInfo:
        """See `Provider.info`."""
        return await self._blobs.info(digest)

    async def infos(self, digests: Sequence[str]) -> dict[str, BlobInfo]:
        """See `BulkProvider.infos`."""
        return await self._blobs.infos(digests)

    def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See `Provider.read`."""
        return self._blobs.read(digest, offset=offset, length=length)

    def ingest(
        self, expected: Descriptor | None = None, *, labels: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[BlobWriter]:
        """See `ContentStore.ingest`."""
        return self.ingest_noting(None, expected)

    @asynccontextmanager
    async def ingest_noting(
        self, note: Callable[[str], Awaitable[None]] | None, expected: Descriptor | None = None
    ) -> AsyncIterator[BlobWriter]:
        """Write a blob.

        Args:
            note: Called with its digest before it becomes visible; see `exporter.content.lease`.
            expected: See `ContentStore.ingest`.
        """
        writer = LayoutWriter(self.staging, self._blobs, Verifier(expected), note)
        try:
            await run_in_thread(writer.open)
            yield writer
        finally:
            await run_in_thread(writer.close)

    async def publish(
        self,
        descriptor: Descriptor,
        names: Sequence[str] = (),
        *,
        tags: Sequence[str] = (),
        epoch: int | None = None,
    ) -> None:
        """Add an image or an index to ``index.json``, as BuildKit's client does.

        All names move at once, and only if everything that it references is present; nondistributable layers
        may be missing. Without names or tags, the descriptor is added unchanged, unless it is already there.

        Args:
            descriptor: The descriptor of the manifest or index.
            names: Full image names, such as ``docker.io/library/app:latest``.
            tags: Names within the layout, such as ``latest``.
            epoch: See `NamedStore.publish`; ignored, since a layout records no times.

        Raises:
            FailedPreconditionError: a blob is missing, or ``index.json`` is not an index.
            UnavailableError: timed out waiting for another process to release the lock.
        """
        await self._publisher.publish(Publication(descriptor, names, tags))

    async def index(self) -> tuple[Descriptor, ...]:
        """The entries of ``index.json``.

        Raises:
            FailedPreconditionError: it is not an index, or an entry is not a descriptor.
        """
        return await run_in_thread(self._index.read, LayoutIndex.descriptors)

    async def resolve(self, name: str) -> Descriptor:
        """The entry with this image name, or else the first one with this tag.

        Raises:
            FailedPreconditionError: ``index.json`` is not an index.
            NotFoundError: there is no such entry.
        """
        descriptor = await run_in_thread(self._index.read, partial(LayoutIndex.find, name=name))
        if descriptor is None:
            raise NotFoundError(f"{self.path} has no image named {name}")
        return descriptor

    async def blobs(self) -> list[BlobInfo]:
        """All blobs, in no particular order."""
        return await run_in_thread(lambda: list(self._blobs.list()))

    async def prune(
        self, *, keep: Collection[str] = (), before: float = math.inf, unnamed: bool = False
    ) -> list[BlobInfo]:
        """Remove the blobs that no entry of ``index.json`` references.

        If this removes a blob of an image that is about to be published, `publish` fails.

        Args:
            keep: Digests of blobs to keep in any case.
            before: Unix seconds; newer blobs are kept.
            unnamed: First remove entries without any name.

        Returns:
            The removed blobs.

        Raises:
            FailedPreconditionError: ``index.json`` is not an index, or a manifest is damaged. Nothing is
                removed.
            UnavailableError: timed out waiting for another process to release the lock.
        """
        async with self._locked_for_removal():
            if unnamed:
                await run_in_thread(self._drop_unnamed, before)
            nodes = await load_graph(self, await self.index(), missing_ok=True)
            needed = {*keep, *(node.descriptor.digest for node in nodes)}
            return await run_in_thread(self._remove_others, needed, before)

    @property
    def _index_path(self) -> Path:
        return self.path / "index.json"

    async def collect(self, *, keep: Collection[str] = (), timeout: float = LOCK_TIMEOUT) -> None:
        """Remove the blobs of exports that ended without an image; see `exporter.content.lease`.

        Args:
            keep: Digests of blobs to keep, in addition to those that ``index.json`` references.
            timeout: Seconds to wait for the lock.

        Raises:
            FailedPreconditionError, UnavailableError: see `prune`.
        """
        async with self._locked_for_removal(timeout):
            nodes = await load_graph(self, await self.index(), missing_ok=True)
            needed = {*keep, *(node.descriptor.digest for node in nodes)}
            await run_in_thread(self.journals.collect, needed.__contains__, self._remove)

    def stat_all(self, digests: Sequence[str]) -> dict[str, BlobInfo]:
        """Like `infos`, but blocking."""
        return self._blobs.stat_all(digests)

    def has(self, digest: str) -> bool:
        """Whether the layout has a blob. Blocks."""
        return self._blobs.path_of(digest).exists()

    async def while_blobs_stay(self, function: Callable[[], T]) -> T:
        """Call a blocking function in a thread while no blob can be removed.

        Raises:
            UnavailableError: timed out waiting for another process that removes blobs.
        """
        return await call_locked(function, self._blobs_stay)

    @property
    def _blobs_stay(self) -> FileLock:
        return FileLock(self.path / "oci-layout", shared=True)

    @property
    def _index_locks(self) -> tuple[FileLock, FileLock]:
        # The second lock is that of BuildKit's client, which may be writing to the same directory. It is not
        # sufficient: the client removes the file after releasing the lock, when others may already hold it.
        return FileLock(self.path, is_directory=True), FileLock(self.path / "index.json.lock", transient=True)

    def _locked_for_publishing(self) -> AbstractAsyncContextManager[None]:
        """Prevent changes of the index by others, and the removal of blobs."""
        return file_locks(self._blobs_stay, *self._index_locks)

    def _locked_for_removal(self, timeout: float = LOCK_TIMEOUT) -> AbstractAsyncContextManager[None]:
        """Prevent others from relying on blobs, and from changing the index."""
        return file_locks(FileLock(self.path / "oci-layout"), *self._index_locks, timeout=timeout)

    async def _check_complete(self, root: Descriptor) -> None:
        if missing := await missing_blobs(self, root):
            raise FailedPreconditionError(
                f"{root.digest} cannot be published in {self.path}: blobs that it references are missing"
                f" or have the wrong size ({', '.join(missing)})"
            )

    # --- blocking ---

    def _prepare(self, *, create: bool) -> None:
        path = self.path / "oci-layout"
        try:
            version = gojson.decode(read_file(path, _SMALL_FILE), _LAYOUT)["imageLayoutVersion"]
        except FileNotFoundError:
            if not create:
                raise NotFoundError(
                    f"{self.path} is not an OCI image layout: it has no file oci-layout"
                ) from None
            self._make()
            return
        except NotADirectoryError:
            raise FailedPreconditionError(f"{self.path} is not a directory") from None
        except ImageError as error:
            raise FailedPreconditionError(f"{path}: {error}") from error
        if not version.startswith("1."):
            raise FailedPreconditionError(
                f"{path}: version {version!r} of the OCI image layout is not supported"
            )
        if create:
            self._complete()

    def _make(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        found = {path.name for path in self.path.iterdir()} - {STAGING_NAME}
        # Another process may be creating the same layout. This is the first file that it writes.
        if found and "oci-layout" not in found:
            raise FailedPreconditionError(
                f"{self.path} is neither empty nor an OCI image layout (it has no file oci-layout);"
                " choose another directory"
            )
        header = gojson.marshal({"imageLayoutVersion": _LAYOUT_VERSION})
        replace_file(self.staging, self.path / "oci-layout", header)
        self._complete()
        sync_directory(self.path.parent)

    def _complete(self) -> None:
        """Create the rest of a layout. Its creator may have been killed after the first file."""
        blobs = self.path / "blobs" / "sha256"
        if blobs.is_dir() and self._index_path.exists():
            return
        blobs.mkdir(parents=True, exist_ok=True)
        staged = self.staging.create()
        try:
            staged.write(LayoutIndex().marshal())
            # Another process may have created it meanwhile, and published since.
            staged.publish_new(self._index_path)
        finally:
            staged.discard()
        sync_directory(self.path)

    def _drop_unnamed(self, before: float) -> None:
        def is_older(entry: Descriptor) -> bool:
            return self._is_older(entry.digest, before)

        self._index.change(lambda index: index.remove_unnamed(is_older))

    def _remove_others(self, needed: AbstractSet[str], before: float) -> list[BlobInfo]:
        removed = []
        needed = needed | self.journals.in_use()
        for blob in self._blobs.list():
            if blob.digest not in needed and self._is_older(blob.digest, before):
                self._remove(blob.digest)
                removed.append(blob)
        return removed

    def _remove(self, digest: str) -> None:
        self._blobs.path_of(digest).unlink(missing_ok=True)

    def _is_older(self, digest: str, time: float) -> bool:
        try:
            return self._blobs.path_of(digest).stat().st_mtime < time
        except FileNotFoundError:
            return True
