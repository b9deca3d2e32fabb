"""The client's side of an export elsewhere: it takes the files and images that are sent to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import grpc.aio

from exporter.content.copy import closing_stream
from exporter.content.layout import OCILayout
from exporter.content.protocol import BlobInfo, BlobWriter
from exporter.errors import FailedPreconditionError, InvalidArgumentError
from exporter.exporters.base import FileSink, Output
from exporter.exporters.output import LocalOutput
from exporter.image import Descriptor
from exporter.pb.moby.filesync.v1 import filesync_pb2
from exporter.rpc.session.handling import Context, add_stream_method

EXPORTER_ID = "buildkit-attachable-exporter-id"
"""Metadata that says which output is sent."""


FileHandler = Callable[[Context], Awaitable[None]]
"""Takes what a daemon sends for one output. Messages are bytes: of which type they are depends on the output,
`filesync_pb2.BytesMessage` for a file and `fsutil.types.Packet` for a directory."""

_SERVICE = "moby.filesync.v1.FileSend"


class FileSendServicer:
    """Takes the output of a build (``moby.filesync.v1.FileSend``).

    Args:
        handlers: By index of the exporter.
    """

    def __init__(self, handlers: Mapping[int, FileHandler]) -> None:
        self._handlers = dict(handlers)

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server. The generated code would read all messages as of one type."""
        add_stream_method(server, _SERVICE, "DiffCopy", self._diff_copy)

    async def _diff_copy(self, request_iterator: object, context: Context) -> None:
        """Take an output. A coroutine and no generator: handlers write their answers, if they have any."""
        index = self._index(context)
        if index not in self._handlers:
            raise FailedPreconditionError(f"output {index} takes no file")
        await self._handlers[index](context)

    def _index(self, context: Context) -> int:
        for key, value in context.invocation_metadata() or ():
            if key == EXPORTER_ID and isinstance(value, str) and value.isascii() and value.isdigit():
                return int(value)
        if len(self._handlers) == 1:  # daemons before v0.13 have one output only and do not say which
            return next(iter(self._handlers))
        raise InvalidArgumentError(
            f"the call does not say which output it is for: metadata {EXPORTER_ID} is missing"
        )


class FileReceiver:
    """Takes the one file of each output.

    A file gets its place with `commit`, when the export that sent it is known to have succeeded: that a call
    has ended does not tell whether the file has.

    Args:
        files: By index of the exporter, paths (or `STDOUT`), or something else that takes a file.
    """

    def __init__(self, files: Mapping[int, str | Output]) -> None:
        self._files = dict(files)
        self._received: dict[int, tuple[FileSink, AsyncExitStack]] = {}
        self._taking: dict[asyncio.Task[None], tuple[int, asyncio.Event]] = {}

    @property
    def handlers(self) -> dict[int, FileHandler]:
        """For `FileSendServicer`."""
        return {index: partial(self._take, index) for index in self._files}

    async def _take(self, index: int, context: Context) -> None:
        task, ended = asyncio.current_task(), asyncio.Event()
        assert task is not None
        self._taking[task] = (index, ended)
        try:
            await self._receive(index, context)
        finally:
            del self._taking[task]
            ended.set()

    async def _receive(self, index: int, context: Context) -> None:
        place = self._files[index]
        output = LocalOutput(place) if isinstance(place, str) else place
        async with AsyncExitStack() as stack:
            sink = await stack.enter_async_context(output.file({}))
            while isinstance(message := await context.read(), bytes):
                await sink.write(filesync_pb2.BytesMessage.FromString(message).data)
            if index in self._received:
                raise FailedPreconditionError(f"output {index} has been sent already")
            self._received[index] = (sink, stack.pop_all())

    async def commit(self, index: int) -> None:
        """Put an output's file into its place, if one came."""
        if index in self._received:
            sink, stack = self._received.pop(index)
            async with stack:
                await sink.commit()

    async def drop(self, index: int) -> None:
        """Drop an output's file, whether it has come or is still coming: the export did not succeed."""
        coming = {task: ended for task, (taken, ended) in self._taking.items() if taken == index}
        for task, ended in coming.items():
            task.cancel()
            await ended.wait()
        if index in self._received:
            _, stack = self._received.pop(index)
            await stack.aclose()

    async def close(self) -> None:
        """Drop the files of all exports that did not succeed."""
        for index in self._files:
            await self.drop(index)


class LayoutReceiver:
    """The directory of an output, as a content store; it is made when the first blob comes.

    Args:
        path: The directory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._layout: OCILayout | None = None
        self._opening = asyncio.Lock()

    @property
    def is_used(self) -> bool:
        """Whether anything was asked of it."""
        return self._layout is not None

    async def open(self) -> OCILayout:
        """Open the layout, or make it.

        Raises:
            FailedPreconditionError: the directory holds something else.
        """
        async with self._opening:
            if self._layout is None:
                self._layout = await OCILayout.open(self._path)
            return self._layout

    async def publish(self, root: Descriptor, names: tuple[str, ...]) -> None:
        """Enter an image whose blobs have come into ``index.json``; see `LayoutSink.publish`."""
        async with LocalOutput(str(self._path)).layout() as layout:
            await layout.publish(root, names)

    async def info(self, digest: str) -> BlobInfo:
        """See `Provider.info`."""
        return await (await self.open()).info(digest)

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See `Provider.read`."""
        layout = await self.open()
        async with closing_stream(layout.read(digest, offset=offset, length=length)) as pieces:
            async for data in pieces:
                yield data

    @asynccontextmanager
    async def ingest(
        self, expected: Descriptor | None = None, *, labels: Mapping[str, str] | None = None
    ) -> AsyncIterator[BlobWriter]:
        """See `ContentStore.ingest`."""
        layout = await self.open()
        async with layout.ingest(expected, labels=labels) as writer:
            yield writer
