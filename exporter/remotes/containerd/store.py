"""containerd as the destination of one export."""

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
    """A namespace's content and images; made by `Containerd.leased`.

    Whatever is written to it, or looked up in it, is spared by the garbage collector from then on, until the
    lease ends. So no blob goes that is left out of a copy because it is there already.

    Args:
        content: Speaks with the lease's ID in its metadata, as do `images` and `unpacker`.
        images: Names.
        unpacker: Snapshots.
        lease: Holds what has no name yet.
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
        # In this order: a blob that is found now was not collected before it was held.
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
        """See `NamedStore.publish`. Without a name, nothing is kept when the lease has ended.

        Raises:
            FailedPreconditionError: something that the image or index points to is missing.
            UnavailableError: there is no containerd.
        """
        if missing := await missing_blobs(self, descriptor):
            raise FailedPreconditionError(
                f"{descriptor.digest} cannot be given a name in containerd: not all that it points to is "
                f"there (missing or of the wrong length: {', '.join(missing)})"
            )
        for name in names:
            await self._images.put(name, descriptor, epoch=epoch)

    async def unpack(self, root: Descriptor) -> None:
        """See `UnpackingStore.unpack`. Snapshots that are there already are used as they are."""
        await self._unpacker.unpack(self, root, self._lease)
