"""A layer of an image: its descriptor, and its bytes as a verified stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from exporter.content.copy import closing_stream
from exporter.content.protocol import Provider
from exporter.content.threads import run_in_thread
from exporter.content.verify import Verifier
from exporter.errors import DataLossError
from exporter.image import Descriptor
from exporter.image.keys import DIFF_ID
from exporter.layer.compression.detect import open_layer
from exporter.layer.pipe import run_piped
from exporter.layer.streams import PIECE_SIZE, HashingReader, Readable, Writable
from exporter.layer.verifying import verified

_QUEUED_PIECES = 4


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """A layer of an image.

    Attributes:
        descriptor: Its descriptor, with BuildKit's internal annotations; ``containerd.io/uncompressed`` is
            its diff ID.
        provider: Provides its bytes, unverified.
    """

    descriptor: Descriptor
    provider: Provider = field(compare=False, repr=False)

    @property
    def digest(self) -> str:
        """The digest of the blob."""
        return self.descriptor.digest

    @property
    def size(self) -> int:
        """The size of the blob in bytes."""
        return self.descriptor.size

    @property
    def media_type(self) -> str:
        """The media type of the blob."""
        return self.descriptor.media_type

    @property
    def diff_id(self) -> str:
        """The digest of the uncompressed tar."""
        return self.descriptor.annotations.get(DIFF_ID, "")

    @asynccontextmanager
    async def open(self, *, uncompressed: bool = False) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read the layer as a stream of bytes, in pieces of bounded size.

        The stream is verified at its end. Do not publish anything that depends on it before that.

        Args:
            uncompressed: Whether to read the uncompressed tar instead of the blob.

        Raises:
            DataLossError: (at the end of the stream) the bytes do not match the digest or the diff ID.
            InvalidArgumentError: the blob is not a layer.
            NotFoundError: the layer no longer exists.
        """
        stream = self._tar() if uncompressed else self._blob()
        async with aclosing(stream):
            yield stream

    async def _blob(self) -> AsyncGenerator[bytes, None]:
        verifier = Verifier(self.descriptor)
        async with closing_stream(self.provider.read(self.digest)) as pieces:
            async for data in pieces:
                await run_in_thread(verifier.update, data)
                yield data
        verifier.finish()

    async def _tar(self) -> AsyncGenerator[bytes, None]:
        queue: asyncio.Queue[bytes] = asyncio.Queue(_QUEUED_PIECES)
        with ThreadPoolExecutor(1, "layer") as executor:
            task = asyncio.create_task(self._decompress(queue, executor))
            try:
                while data := await queue.get():
                    yield data
                await task
            finally:
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled():
                    task.exception()  # mark it as retrieved; a reader that reached the end has it

    async def _decompress(self, queue: asyncio.Queue[bytes], executor: ThreadPoolExecutor) -> None:
        try:
            work = partial(_decompress, self.descriptor)
            await run_piped(work, self.provider.read(self.digest), queue.put, executor)
        except Exception:
            await queue.put(b"")  # wake the reader, which gets the error from this task
            raise
        await queue.put(b"")


def _decompress(descriptor: Descriptor, source: Readable, sink: Writable) -> None:
    with verified(source, descriptor) as blob:
        tar = HashingReader(open_layer(blob, descriptor.media_type))
        while data := tar.read(PIECE_SIZE):
            sink.write(data)
    diff_id = descriptor.annotations.get(DIFF_ID)
    if diff_id and diff_id != tar.digest:
        raise DataLossError(
            f"layer {descriptor.digest}: the digest of its tar is {tar.digest}, not {diff_id}"
        )
