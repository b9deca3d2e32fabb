"""A content store in memory, for small intermediate blobs and for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Self

from exporter.content.files import CHUNK_SIZE
from exporter.content.protocol import BlobInfo, BlobWriter
from exporter.content.threads import run_in_thread
from exporter.content.verify import Verifier
from exporter.errors import NotFoundError
from exporter.image import Descriptor, digest_bytes


class MemoryStore:
    """A content store that keeps its blobs in memory, without a limit.

    Args:
        blobs: Its initial blobs.
    """

    def __init__(self, *blobs: bytes) -> None:
        self._blobs = {digest_bytes(blob): blob for blob in blobs}

    @classmethod
    def of(cls, blobs: Mapping[str, bytes]) -> Self:
        """A store of blobs with unverified digests, such as those in a message."""
        store = cls()
        store._blobs.update(blobs)
        return store

    async def info(self, digest: str) -> BlobInfo:
        """See `Provider.info`."""
        return BlobInfo(digest, len(self._find(digest)))

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See `Provider.read`."""
        data = self._find(digest)
        end = len(data) if length is None else min(len(data), offset + length)
        for start in range(offset, end, CHUNK_SIZE):
            yield data[start : min(end, start + CHUNK_SIZE)]

    @asynccontextmanager
    async def ingest(
        self, expected: Descriptor | None = None, *, labels: Mapping[str, str] | None = None
    ) -> AsyncIterator[BlobWriter]:
        """See `ContentStore.ingest`."""
        yield _MemoryWriter(self._blobs, Verifier(expected))

    def blobs(self) -> list[BlobInfo]:
        """All blobs, in the order in which they were added."""
        return [BlobInfo(digest, len(data)) for digest, data in self._blobs.items()]

    def _find(self, digest: str) -> bytes:
        try:
            return self._blobs[digest]
        except KeyError:
            raise NotFoundError(f"blob {digest} not found") from None


class _MemoryWriter:
    def __init__(self, blobs: dict[str, bytes], verifier: Verifier) -> None:
        self._blobs = blobs
        self._verifier = verifier
        self._data = bytearray()

    async def write(self, data: bytes) -> None:
        await run_in_thread(self._verifier.update, data)
        self._data += data

    async def commit(self) -> BlobInfo:
        info = self._verifier.finish()
        self._blobs[info.digest] = bytes(self._data)
        return info
