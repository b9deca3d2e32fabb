"""The small interface that every content store has: blobs by digest.

Modelled on containerd's content store. A blob that can be seen has been verified: it becomes visible with
`commit`, never before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from exporter.image import Descriptor


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """What a store knows of a blob without reading it. `size` is in bytes."""

    digest: str
    size: int


class Provider(Protocol):
    """Something blobs can be read from."""

    async def info(self, digest: str) -> BlobInfo:
        """Return the blob's size.

        Raises:
            NotFoundError: the store has no such blob.
        """
        ...

    def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Stream `length` bytes (all, if None) from `offset` on, in chunks of bounded size.

        The bytes are *not* verified by the store; `exporter.content.copy` does that wherever bytes enter a
        store or are parsed.

        Raises:
            NotFoundError: the store has no such blob (raised at the first step of the iteration).
        """
        ...


class BlobWriter(Protocol):
    """A blob in the making. Invisible to readers until `commit` succeeds."""

    async def write(self, data: bytes) -> None:
        """Append `data`."""
        ...

    async def commit(self) -> BlobInfo:
        """Verify and publish what was written.

        Raises:
            DataLossError: digest or size are not those of the descriptor that the writer was opened for.
        """
        ...


class ContentStore(Provider, Protocol):
    """A provider that can also be written to."""

    def ingest(
        self, expected: Descriptor | None = None, *, labels: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[BlobWriter]:
        """Open a writer; leaving the block without `commit` discards what was written.

        Args:
            expected: The blob's descriptor. None if the digest is not known beforehand; then `commit` accepts
                any bytes and tells their digest. Stores for which manifests differ from other blobs (a
                registry) look at its media type.
            labels: For stores that have labels (containerd's garbage collector follows
                ``containerd.io/gc.ref.*``); others ignore them.

        Several writers of one digest may be open at once; all of their commits succeed.
        """
        ...


@runtime_checkable
class LabelledStore(ContentStore, Protocol):
    """A store that has labels for its blobs, and something that heeds them: containerd's."""

    async def add_labels(self, digest: str, labels: Mapping[str, str]) -> None:
        """Give a blob labels that it does not have yet; those that it has stay.

        Raises:
            NotFoundError: the store has no such blob.
        """
        ...
