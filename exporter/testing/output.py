"""A client's ``dest=`` in memory."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from exporter.content.copy import missing_blobs
from exporter.content.memory import MemoryStore
from exporter.content.threads import run_in_thread
from exporter.errors import FailedPreconditionError, InvalidArgumentError
from exporter.exporters.destinations import FileSink, LayoutSink
from exporter.exporters.files.entry import FileEntry, shown
from exporter.exporters.files.order import EntryOrder
from exporter.image import Descriptor


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file, directory or link that was written into the client's directory.

    Attributes:
        entry: The exporter's description of it.
        content: Its bytes; empty if it is not a file.
    """

    entry: FileEntry
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class PublishedImage:
    """An entry of a layout's index.

    Attributes:
        root: The image or index.
        names: Its names.
    """

    root: Descriptor
    names: tuple[str, ...]


class MemoryLayout:
    """A layout in memory; see `LayoutSink`.

    Attributes:
        store: Its blobs.
        images: The published images.
    """

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.images: list[PublishedImage] = []

    async def publish(self, root: Descriptor, names: tuple[str, ...]) -> None:
        """See `LayoutSink.publish`.

        Raises:
            FailedPreconditionError: a blob is missing.
        """
        missing = await missing_blobs(self.store, root)
        if missing:
            raise FailedPreconditionError(f"published before all its blobs were there: {', '.join(missing)}")
        self.images.append(PublishedImage(root, names))


@dataclass(slots=True)
class MemoryOutput:
    """Keeps everything that an exporter sends to the client. It is as strict as the real outputs.

    Attributes:
        files: The committed archives, in order.
        responses: The response keys that were sent before each archive.
        dropped: The number of files that were opened but not committed.
        layouts: The opened layouts, in order.
        directory_files: The contents of the directory, by path.
    """

    files: list[bytes] = field(default_factory=list)
    responses: list[Mapping[str, str]] = field(default_factory=list)
    dropped: int = 0
    layouts: list[MemoryLayout] = field(default_factory=list)
    directory_files: dict[str, WrittenFile] = field(default_factory=dict)

    @property
    def file_content(self) -> bytes:
        """The single committed file.

        Raises:
            AssertionError: not exactly one file was committed.
        """
        assert len(self.files) == 1, f"{len(self.files)} files were committed, not one"
        return self.files[0]

    @asynccontextmanager
    async def file(self, response: Mapping[str, str]) -> AsyncIterator[FileSink]:
        """See `Output.file`."""
        sink = _MemoryFile()
        try:
            yield sink
        finally:
            if sink.is_committed:
                self.files.append(sink.content.getvalue())
                self.responses.append(dict(response))
            else:
                self.dropped += 1

    @asynccontextmanager
    async def layout(self) -> AsyncIterator[LayoutSink]:
        """See `Output.layout`."""
        layout = MemoryLayout()
        self.layouts.append(layout)
        yield layout

    async def directory(
        self,
        entries: Iterable[FileEntry],
        *,
        delete: bool = False,
        on_sent: Callable[[int], None] | None = None,
    ) -> None:
        """See `Output.directory`."""
        written = await run_in_thread(_take, entries)
        if delete:
            self.directory_files.clear()
        self.directory_files.update(written)
        if on_sent is not None:
            on_sent(sum(len(file.content) for file in written.values()))


class _MemoryFile:
    def __init__(self) -> None:
        self.content = io.BytesIO()
        self.is_committed = False

    async def write(self, data: bytes) -> None:
        if self.is_committed:
            raise FailedPreconditionError("a file is written to after it was committed")
        self.content.write(data)

    async def commit(self) -> None:
        self.is_committed = True


def _take(entries: Iterable[FileEntry]) -> dict[str, WrittenFile]:
    """Read the entries, and check their order like all outputs. Blocks."""
    order = EntryOrder()
    written: dict[str, WrittenFile] = {}
    for entry in entries:
        order.check(entry)
        content = b"".join(entry.content.pieces()) if entry.has_content else b""
        if entry.has_content and len(content) != entry.size:
            raise InvalidArgumentError(
                f"{shown(entry.path)} has {len(content)} bytes, and {entry.size} in its entry"
            )
        written[os.fsdecode(entry.path)] = WrittenFile(entry, content)
    return written
