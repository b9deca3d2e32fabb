"""The use of a store by one export, which removes the blobs of failed exports."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Self

from exporter.content.copy import closing_stream
from exporter.content.journal import Journal
from exporter.content.layout import OCILayout
from exporter.content.protocol import BlobInfo, BlobWriter
from exporter.content.threads import run_in_thread
from exporter.errors import ExporterError, NotFoundError
from exporter.image import Descriptor

log = logging.getLogger(__name__)

FindLayout = Callable[[], Awaitable[OCILayout | None]]
"""Returns the layout; None if it does not exist and must not be created."""

Needed = Callable[[], AbstractAsyncContextManager[Collection[str]]]
"""Yields the digests that images outside of the layout need. No image can be added until the block ends."""

_COLLECT_TIMEOUT = 5.0


class Lease:
    """An OCI layout as the store of one export. Use it as a context manager.

    If the block fails, the blobs that were written through the lease are removed, except for those that an
    image needs or that another running export (in any process) uses. If all of these exports fail as well,
    the last one removes them. The next export removes what a killed export has written.

    Args:
        layout: Opens the layout for writing.
        existing: Opens it for reading.
        needed: See `Needed`; None if all images are in the layout.
    """

    def __init__(
        self,
        layout: Callable[[], Awaitable[OCILayout]],
        existing: FindLayout,
        needed: Needed | None = None,
    ) -> None:
        self._open = layout
        self._existing = existing
        self._needed = needed
        self._journal: Journal | None = None
        self._layout: OCILayout | None = None
        self._beginning = threading.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        journal, layout = self._journal, self._layout
        if journal is None or layout is None:
            return
        self._journal = None
        await run_in_thread(journal.close, keep=error is not None)
        await self._collect(layout)

    async def info(self, digest: str) -> BlobInfo:
        """See `Provider.info`. The blob is protected until the lease ends."""
        found = await self.infos([digest])
        if digest not in found:
            raise NotFoundError(f"blob {digest} not found")
        return found[digest]

    async def infos(self, digests: Sequence[str]) -> dict[str, BlobInfo]:
        """See `BulkProvider.infos`. The blobs are protected until the lease ends."""
        layout = await self._existing()
        if layout is None:
            return {}
        found = await layout.infos(digests)
        if found and not self._has_noted(found):
            found = await layout.while_blobs_stay(partial(self._note_existing, layout, list(found)))
        return found

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
        layout = await self._open()

        async def note(digest: str) -> None:
            await self._note(layout, digest)

        async with layout.ingest_noting(note, expected) as writer:
            yield writer

    async def publish(
        self,
        descriptor: Descriptor,
        names: Sequence[str] = (),
        *,
        tags: Sequence[str] = (),
        epoch: int | None = None,
    ) -> None:
        """See `OCILayout.publish`."""
        await (await self._open()).publish(descriptor, names, tags=tags, epoch=epoch)

    # The removal of blobs holds the exclusive lock from reading the journals until the blobs are gone.

    async def _note(self, layout: OCILayout, digest: str) -> None:
        if not self._has_noted([digest]):
            await layout.while_blobs_stay(partial(self._note_one, layout, digest))

    def _has_noted(self, digests: Iterable[str]) -> bool:
        return self._journal is not None and self._journal.has_noted(digests)

    def _note_existing(self, layout: OCILayout, digests: Sequence[str]) -> dict[str, BlobInfo]:
        found = layout.stat_all(digests)
        if found:
            self._begin(layout).note(found, is_there=True)
        return found

    def _note_one(self, layout: OCILayout, digest: str) -> None:
        self._begin(layout).note([digest], is_there=layout.has(digest))

    def _begin(self, layout: OCILayout) -> Journal:
        with self._beginning:
            if self._journal is None:
                self._journal = layout.journals.begin()
                self._layout = layout
            return self._journal

    async def _collect(self, layout: OCILayout) -> None:
        """Remove the blobs of failed exports. Best effort: a later export will retry."""
        if not await run_in_thread(layout.journals.has_ended):
            return
        try:
            if self._needed is None:
                await layout.collect(timeout=_COLLECT_TIMEOUT)
                return
            async with self._needed() as needed:
                await layout.collect(keep=needed, timeout=_COLLECT_TIMEOUT)
        except (ExporterError, OSError) as error:
            log.warning("cannot remove the blobs of failed exports in %s: %s", layout.path, error)


def lease_of(layout: OCILayout) -> Lease:
    """A lease of an open layout."""

    async def found() -> OCILayout:
        return layout

    return Lease(found, found)
