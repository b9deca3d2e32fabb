"""The embedded image store, opened and created on demand, because most exports do not need it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from exporter.content.copy import closing_stream
from exporter.content.layout import OCILayout, default_root_path
from exporter.content.lease import Lease
from exporter.content.protocol import BlobInfo, BlobWriter
from exporter.content.root import image_store, layout_path, open_root
from exporter.content.threads import run_in_thread
from exporter.errors import ExporterError, FailedPreconditionError, NotFoundError, failure_of
from exporter.image import Descriptor


class EmbeddedStore:
    """A content store with names below a root directory; see `exporter.content.root.open_root`.

    Reading never creates the store. For a reader, a store that is missing or cannot be used is empty.

    Args:
        root: The root directory; None for the default in the user's home directory.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = root
        self._layout: OCILayout | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> OCILayout:
        """Open the store, and create it if it does not exist.

        Raises:
            FailedPreconditionError: the directory holds something else, or the default root cannot be used.
            OSError: a root that the user chose cannot be used.
        """
        async with self._opening:
            if self._layout is None:
                self._layout = await self._open()
            return self._layout

    async def info(self, digest: str) -> BlobInfo:
        """See `Provider.info`."""
        layout = await self._existing()
        if layout is None:
            raise NotFoundError(f"blob {digest} not found")
        return await layout.info(digest)

    async def infos(self, digests: Sequence[str]) -> dict[str, BlobInfo]:
        """See `BulkProvider.infos`."""
        layout = await self._existing()
        return {} if layout is None else await layout.infos(digests)

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See `Provider.read`."""
        layout = await self._existing()
        if layout is None:
            raise NotFoundError(f"blob {digest} not found")
        async with closing_stream(layout.read(digest, offset=offset, length=length)) as pieces:
            async for piece in pieces:
                yield piece

    @asynccontextmanager
    async def ingest(
        self, expected: Descriptor | None = None, *, labels: Mapping[str, str] | None = None
    ) -> AsyncIterator[BlobWriter]:
        """See `ContentStore.ingest`."""
        async with (await self.open()).ingest(expected, labels=labels) as writer:
            yield writer

    def lease(self) -> Lease:
        """A lease of the store for one export, to be entered."""

        @asynccontextmanager
        async def needed() -> AsyncIterator[Collection[str]]:
            root = self._root or default_root_path()
            images = image_store(root, self)
            if not await run_in_thread(images.path.exists):
                yield ()
                return
            async with images.pruning() as digests:
                yield digests

        return Lease(self.open, self._existing, needed)

    async def publish(
        self, descriptor: Descriptor, names: Sequence[str] = (), *, epoch: int | None = None
    ) -> None:
        """See `NamedStore.publish`."""
        await (await self.open()).publish(descriptor, names, epoch=epoch)

    async def _open(self) -> OCILayout:
        if self._root is not None:
            return (await open_root(self._root))[0]
        try:
            root = default_root_path()
        except FailedPreconditionError as error:
            raise FailedPreconditionError(
                f"there is no directory for the image store: {error.message}; choose one with --root"
            ) from error
        try:
            return (await open_root(root))[0]
        except (ExporterError, OSError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or failure_of(error).message
            raise FailedPreconditionError(
                f"the image store in {root} cannot be used: {reason}; choose another one with --root"
            ) from error

    async def _existing(self) -> OCILayout | None:
        if self._layout is None:
            try:
                path = layout_path(self._root or default_root_path())
                if not await run_in_thread((path / "oci-layout").is_file):
                    return None
                return await self.open()
            except (ExporterError, OSError):
                return None
        return self._layout
