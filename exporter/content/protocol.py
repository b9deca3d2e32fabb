"""The small interface of every content store: blobs by digest.

Modelled on containerd's content store. Every visible blob has been verified: only `commit` makes it visible.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from exporter.image import Descriptor


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """What a store knows about a blob without reading it. `size` is in bytes."""

    digest: str
    size: int


class Provider(Protocol):
    """Something that blobs can be read from."""

    async def info(self, digest: str) -> BlobInfo:
        """Return the blob's size.

        Raises:
            NotFoundError: the store has no such blob.
        """
        ...

    def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Stream `length` bytes (all, if None) from `offset` on, in chunks of bounded size.

        The store does *not* verify the bytes. `exporter.content.copy` does, whenever bytes enter a store or
        are parsed.

        Raises:
            NotFoundError: the store has no such blob (raised by the first step of the iteration).
        """
        ...


class BulkProvider(Provider, Protocol):
    """A provider with a bulk lookup, which is faster than individual lookups."""

    async def infos(self, digests: Sequence[str]) -> dict[str, BlobInfo]:
        """Those of the blobs that it has, by digest."""
        ...


class BlobWriter(Protocol):
    """A blob that is being written, and invisible to readers until `commit` succeeds."""

    async def write(self, data: bytes) -> None:
        """Append `data`."""
        ...

    async def commit(self) -> BlobInfo:
        """Verify and publish the blob.

        Raises:
            DataLossError: digest or size do not match the descriptor that the writer was opened with.
        """
        ...


class ContentStore(Provider, Protocol):
    """A provider that can also be written to."""

    def ingest(
        self, expected: Descriptor | None = None, *, labels: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[BlobWriter]:
        """Open a writer; leaving the block without `commit` discards what was written.

        Args:
            expected: The blob's descriptor. None if the digest is not known in advance; then `commit` accepts
                any bytes and returns their digest. Stores that treat manifests differently (registries)
                depend on its media type.
            labels: For stores that have labels (containerd's garbage collector follows
                ``containerd.io/gc.ref.*``); others ignore them.

        Several writers may be open for the same digest; all of their commits succeed.
        """
        ...


@runtime_checkable
class LabelledStore(ContentStore, Protocol):
    """A store whose blobs can have labels, such as containerd's."""

    async def add_labels(self, digest: str, labels: Mapping[str, str]) -> None:
        """Add labels to a blob. Existing labels keep their values.

        Raises:
            NotFoundError: the store has no such blob.
        """
        ...
