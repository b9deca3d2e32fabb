"""The client's side of ``dest=``, in memory."""

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
from exporter.exporters.base import FileSink, LayoutSink
from exporter.exporters.files.entry import FileEntry, shown
from exporter.exporters.files.order import EntryOrder
from exporter.image import Descriptor


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file, or something else, that was written into the client's directory.

    Attributes:
        entry: What the exporter said of it.
        content: Its bytes; empty for what is not a file.
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
        images: What was published.
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
    """Keeps what an exporter sends to the client. It is as strict as the outputs that users have.

    Attributes:
        files: Archives that were committed, in order.
        responses: What was said of each before its first byte.
        dropped: How many files were begun and not committed.
        layouts: Layouts that were opened, in order.
        directory_files: What is in the directory, by path.
    """

    files: list[bytes] = field(default_factory=list)
    responses: list[Mapping[str, str]] = field(default_factory=list)
    dropped: int = 0
    layouts: list[MemoryLayout] = field(default_factory=list)
    directory_files: dict[str, WrittenFile] = field(default_factory=dict)

    @property
    def file_content(self) -> bytes:
        """The one file that was committed.

        Raises:
            AssertionError: there is none, or more than one.
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
    """Go through the entries, and check their order as all outputs do. Blocks."""
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
