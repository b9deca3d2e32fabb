"""The client's side of a remote export: receiving files and images."""

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
from exporter.exporters.destinations import FileSink, Output
from exporter.exporters.output import LocalOutput
from exporter.image import Descriptor
from exporter.pb.moby.filesync.v1 import filesync_pb2
from exporter.rpc.session.handling import Context, add_stream_method

EXPORTER_ID = "buildkit-attachable-exporter-id"
"""The metadata key for the index of the output."""


FileHandler = Callable[[Context], Awaitable[None]]
"""Receives a daemon's data for one output. Messages are raw bytes, because their type depends on the output:
`filesync_pb2.BytesMessage` for a file, `fsutil.types.Packet` for a directory."""

_SERVICE = "moby.filesync.v1.FileSend"


class FileSendServicer:
    """Receives the output of a build (``moby.filesync.v1.FileSend``).

    Args:
        handlers: The handlers by the index of the exporter.
    """

    def __init__(self, handlers: Mapping[int, FileHandler]) -> None:
        self._handlers = dict(handlers)

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server. The generated code would parse all messages as one type."""
        add_stream_method(server, _SERVICE, "DiffCopy", self._diff_copy)

    async def _diff_copy(self, request_iterator: object, context: Context) -> None:
        """Receive an output. A coroutine rather than a generator, since handlers write any answers."""
        index = self._index(context)
        if index not in self._handlers:
            raise FailedPreconditionError(f"output {index} takes no file")
        await self._handlers[index](context)

    def _index(self, context: Context) -> int:
        for key, value in context.invocation_metadata() or ():
            if key == EXPORTER_ID and isinstance(value, str) and value.isascii() and value.isdigit():
                return int(value)
        if len(self._handlers) == 1:  # daemons before v0.13 only have one output and do not send its index
            return next(iter(self._handlers))
        raise InvalidArgumentError(
            f"the call does not say which output it is for: metadata {EXPORTER_ID} is missing"
        )


class FileReceiver:
    """Receives the single file of each output.

    `commit` moves a file to its destination when the export is known to have succeeded. The end of the call
    does not say whether the file is complete.

    Args:
        files: Paths (or `STDOUT`), or outputs that receive a file, by the index of the exporter.
    """

    def __init__(self, files: Mapping[int, str | Output]) -> None:
        self._files = dict(files)
        self._received: dict[int, tuple[FileSink, AsyncExitStack]] = {}
        self._taking: dict[asyncio.Task[None], tuple[int, asyncio.Event]] = {}

    @property
    def handlers(self) -> dict[int, FileHandler]:
        """The handlers for `FileSendServicer`."""
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
        """Move an output's file to its destination, if it was received."""
        if index in self._received:
            sink, stack = self._received.pop(index)
            async with stack:
                await sink.commit()

    async def drop(self, index: int) -> None:
        """Drop an output's file, complete or not, because the export did not succeed."""
        coming = {task: ended for task, (taken, ended) in self._taking.items() if taken == index}
        for task, ended in coming.items():
            task.cancel()
            await ended.wait()
        if index in self._received:
            _, stack = self._received.pop(index)
            await stack.aclose()

    async def close(self) -> None:
        """Drop all uncommitted files."""
        for index in self._files:
            await self.drop(index)


class LayoutReceiver:
    """The directory of an output as a content store. It is created when the first blob arrives.

    Args:
        path: The directory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._layout: OCILayout | None = None
        self._opening = asyncio.Lock()

    @property
    def is_used(self) -> bool:
        """Whether it has been used."""
        return self._layout is not None

    async def open(self) -> OCILayout:
        """Open or create the layout.

        Raises:
            FailedPreconditionError: the directory has other contents.
        """
        async with self._opening:
            if self._layout is None:
                self._layout = await OCILayout.open(self._path)
            return self._layout

    async def publish(self, root: Descriptor, names: tuple[str, ...]) -> None:
        """Add an image to ``index.json`` after its blobs have arrived; see `LayoutSink.publish`."""
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
