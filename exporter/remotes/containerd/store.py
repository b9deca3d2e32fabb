"""containerd as the image store of an export."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from exporter.content.copy import missing_blobs
from exporter.content.protocol import BlobInfo, BlobWriter
from exporter.errors import FailedPreconditionError
from exporter.image import Descriptor
from exporter.remotes.containerd.images import ImageRecords
from exporter.remotes.containerd.lease import CONTENT, Lease
from exporter.remotes.containerd.unpack import Unpacker
from exporter.remotes.session.content import ContentClient


class ContainerdStore:
    """A namespace's content and images; created by `Containerd.leased`.

    The lease protects everything that is written or looked up. So a blob that is not copied because it
    already exists cannot be garbage-collected before the image has a name.

    Args:
        content: The blobs. Its metadata contains the lease's ID, as does that of `images` and `unpacker`.
        images: The names.
        unpacker: Creates snapshots.
        lease: Protects resources that are not part of a named image yet.
    """

    def __init__(
        self, content: ContentClient, images: ImageRecords, unpacker: Unpacker, lease: Lease
    ) -> None:
        self._content = content
        self._images = images
        self._unpacker = unpacker
        self._lease = lease

    async def info(self, digest: str) -> BlobInfo:
        """See `Provider.info`."""
        # In this order, so that a blob cannot be collected after it has been found.
        await self._lease.hold(CONTENT, digest)
        return await self._content.info(digest)

    def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See `Provider.read`."""
        return self._content.read(digest, offset=offset, length=length)

    @asynccontextmanager
    async def ingest(
        self, expected: Descriptor | None = None, *, labels: Mapping[str, str] | None = None
    ) -> AsyncIterator[BlobWriter]:
        """See `ContentStore.ingest`."""
        await self._lease.begin()
        async with self._content.ingest(expected, labels=labels) as writer:
            yield writer

    async def add_labels(self, digest: str, labels: Mapping[str, str]) -> None:
        """See `LabelledStore.add_labels`."""
        await self._content.add_labels(digest, labels)

    async def publish(
        self, descriptor: Descriptor, names: Sequence[str] = (), *, epoch: int | None = None
    ) -> None:
        """See `NamedStore.publish`. Without a name, the image is not kept after the lease has ended.

        Raises:
            FailedPreconditionError: a blob that the image or index references is missing.
            UnavailableError: containerd is not reachable.
        """
        if missing := await missing_blobs(self, descriptor):
            raise FailedPreconditionError(
                f"{descriptor.digest} cannot be published in containerd: blobs that it references are "
                f"missing or have the wrong size ({', '.join(missing)})"
            )
        for name in names:
            await self._images.put(name, descriptor, epoch=epoch)

    async def unpack(self, root: Descriptor) -> None:
        """See `UnpackingStore.unpack`. Existing snapshots are reused."""
        await self._unpacker.unpack(self, root, self._lease)
