"""The use of a store by one export, which removes the blobs of failed exports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
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
        self._beginning = asyncio.Lock()

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
        layout = await self._existing()
        if layout is None:
            raise NotFoundError(f"blob {digest} not found")
        await layout.info(digest)
        await self._note(layout, digest)
        return await layout.info(digest)

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

    async def _note(self, layout: OCILayout, digest: str) -> None:
        # The removal of blobs holds the exclusive lock from reading the journals until the blobs are gone.
        async with layout.locked(shared=True):
            journal = await self._journal_in(layout)
            await run_in_thread(lambda: journal.note(digest, is_there=layout.has(digest)))

    async def _journal_in(self, layout: OCILayout) -> Journal:
        async with self._beginning:
            if self._journal is None:
                self._journal = await run_in_thread(Journal, layout.staging)
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
