"""Checking that an exporter has written the kind of artifact that it declares: a file or a directory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

from exporter.content.protocol import ContentStore
from exporter.errors import FailedPreconditionError
from exporter.exporters.base import ArtifactKind, Exporter
from exporter.exporters.destinations import FileSink, LayoutSink, Output
from exporter.exporters.files.entry import FileEntry
from exporter.exporters.plugins import origin_of
from exporter.image import Descriptor
from exporter.image.go import text as gotext


class WatchedOutput:
    """An output that records whether it has been used; see `Output`."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._began = False
        self._ended = False

    def check(self, exporter: Exporter) -> None:
        """Check at the end of an export that the declared artifact has been written.

        Raises:
            FailedPreconditionError: it has not.
        """
        if exporter.creates not in {ArtifactKind.ARCHIVE, ArtifactKind.FILES} or self._ended:
            return
        what = "a file" if exporter.creates is ArtifactKind.ARCHIVE else "a directory"
        done = "has not committed what it wrote" if self._began else "has written nothing"
        origin = origin_of(type(exporter))
        of = f" of {origin.distribution}" if origin is not None and origin.distribution else ""
        raise FailedPreconditionError(
            f"the exporter {gotext.quote(exporter.type)}{of} makes {what}, but {done}: there is no output"
        )

    @asynccontextmanager
    async def file(self, response: Mapping[str, str]) -> AsyncIterator[FileSink]:
        """See `Output.file`."""
        self._began = True
        async with self._output.file(response) as sink:
            yield _WatchedFile(sink, self._end)

    @asynccontextmanager
    async def layout(self) -> AsyncIterator[LayoutSink]:
        """See `Output.layout`."""
        self._began = True
        async with self._output.layout() as sink:
            yield _WatchedLayout(sink, self._end)

    async def directory(
        self,
        entries: Iterable[FileEntry],
        *,
        delete: bool = False,
        on_sent: Callable[[int], None] | None = None,
    ) -> None:
        """See `Output.directory`."""
        self._began = True
        await self._output.directory(entries, delete=delete, on_sent=on_sent)
        self._ended = True

    def _end(self) -> None:
        self._ended = True


class _WatchedFile:
    def __init__(self, sink: FileSink, on_end: Callable[[], None]) -> None:
        self._sink = sink
        self._on_end = on_end

    async def write(self, data: bytes) -> None:
        await self._sink.write(data)

    async def commit(self) -> None:
        await self._sink.commit()
        self._on_end()


class _WatchedLayout:
    def __init__(self, sink: LayoutSink, on_end: Callable[[], None]) -> None:
        self._sink = sink
        self._on_end = on_end

    @property
    def store(self) -> ContentStore:
        return self._sink.store

    async def publish(self, root: Descriptor, names: tuple[str, ...]) -> None:
        await self._sink.publish(root, names)
        self._on_end()
