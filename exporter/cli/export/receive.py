"""The client's side of an export on a server: it takes the files and images that the server sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio

from exporter.cli.outputs import Output
from exporter.content.layout import OCILayout
from exporter.content.protocol import BlobInfo, BlobWriter
from exporter.errors import FailedPreconditionError, InvalidArgumentError
from exporter.exporters.base import FileSink
from exporter.exporters.output import LocalOutput
from exporter.image import Descriptor
from exporter.pb.moby.filesync.v1 import filesync_pb2, filesync_pb2_grpc

_EXPORTER_ID = "buildkit-attachable-exporter-id"

Context = grpc.aio.ServicerContext[Any, Any]


class FileReceiver(filesync_pb2_grpc.FileSendServicer):
    """Takes the one file of each output.

    A file gets its place with `commit`, when the export that sent it is known to have succeeded: that a call
    has ended does not tell whether the file has.

    Args:
        outputs: By index of the exporter; those with a file as destination take one.
    """

    def __init__(self, outputs: Sequence[Output]) -> None:
        self._outputs = outputs
        self._received: dict[int, tuple[FileSink, AsyncExitStack]] = {}

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server."""
        filesync_pb2_grpc.add_FileSendServicer_to_server(self, server)

    async def DiffCopy(  # type: ignore[override]  # noqa: N802
        self, request_iterator: object, context: Context
    ) -> None:
        """Take a file. A coroutine and no generator, since nothing is ever answered."""
        index = _exporter_id(context)
        output = self._outputs[index] if index < len(self._outputs) else None
        if output is None or output.destination is None or output.destination.is_directory:
            raise FailedPreconditionError(f"output {index} takes no file")
        async with AsyncExitStack() as stack:
            sink = await stack.enter_async_context(LocalOutput(output.destination.path).file({}))
            while isinstance(message := await context.read(), filesync_pb2.BytesMessage):
                await sink.write(message.data)
            if index in self._received:
                raise FailedPreconditionError(f"output {index} has been sent already")
            self._received[index] = (sink, stack.pop_all())

    async def commit(self, index: int) -> None:
        """Put an output's file into its place, if one came."""
        if index in self._received:
            sink, stack = self._received.pop(index)
            async with stack:
                await sink.commit()

    async def close(self) -> None:
        """Drop the files of exports that did not succeed."""
        while self._received:
            _, (_, stack) = self._received.popitem()
            await stack.aclose()


class LayoutReceiver:
    """The directory of an output, as a content store; it is made when the first blob comes.

    Args:
        path: The directory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._layout: OCILayout | None = None
        self._opening = asyncio.Lock()

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
        async for data in layout.read(digest, offset=offset, length=length):
            yield data

    @asynccontextmanager
    async def ingest(
        self, expected: Descriptor | None = None, *, labels: Mapping[str, str] | None = None
    ) -> AsyncIterator[BlobWriter]:
        """See `ContentStore.ingest`."""
        layout = await self.open()
        async with layout.ingest(expected, labels=labels) as writer:
            yield writer


def _exporter_id(context: Context) -> int:
    for key, value in context.invocation_metadata() or ():
        if key == _EXPORTER_ID and isinstance(value, str) and value.isascii() and value.isdigit():
            return int(value)
    raise InvalidArgumentError(
        f"the call does not say which output it is for: metadata {_EXPORTER_ID} is missing"
    )
