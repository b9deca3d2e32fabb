"""The use of a store by one export: what an export that fails has written does not stay."""

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
"""Gives the layout; None if there is none and none is to be made."""

Needed = Callable[[], AbstractAsyncContextManager[Collection[str]]]
"""Gives the digests that images beside the layout need; none comes until the block ends."""

_COLLECT_TIMEOUT = 5.0


class Lease:
    """A content store with names: an OCI layout, used by one export. A context manager.

    If the block fails, the blobs that came through the lease are removed, but for those that an image needs
    or that another running export uses, in whatever process. The last of those exports removes them if it
    fails as well. What a killed export has written is removed by the next one.

    Args:
        layout: Opens the layout for writing.
        existing: Finds it for reading.
        needed: See `Needed`; None if images are in the layout only.
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
        """See `Provider.info`. The blob stays until the lease ends."""
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
        # Whoever removes blobs holds the lock from looking at the notes until the blobs are gone.
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
        """Remove what ended exports have left. If that fails, a later one tries again."""
        if not await run_in_thread(layout.journals.has_ended):
            return
        try:
            if self._needed is None:
                await layout.collect(timeout=_COLLECT_TIMEOUT)
                return
            async with self._needed() as needed:
                await layout.collect(keep=needed, timeout=_COLLECT_TIMEOUT)
        except (ExporterError, OSError) as error:
            log.warning("cannot remove what failed exports have left in %s: %s", layout.path, error)


def lease_of(layout: OCILayout) -> Lease:
    """A lease of a layout that is open."""

    async def found() -> OCILayout:
        return layout

    return Lease(found, found)
