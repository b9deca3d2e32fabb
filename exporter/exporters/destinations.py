"""Where artifacts go: the client's files, image stores, and registries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from exporter.content.protocol import ContentStore, Provider
from exporter.image import Descriptor
from exporter.progress.producer import VertexProgress

if TYPE_CHECKING:
    from exporter.layer.entry import FileEntry
    from exporter.remotes.registry import DistributionSources

__all__ = [
    "FileSink",
    "LayoutSink",
    "NamedStore",
    "Output",
    "PublishHook",
    "Puller",
    "Pusher",
    "UnpackingStore",
]


class FileSink(Protocol):
    """A file that is sent to the client. Leaving the block without `commit` discards it."""

    async def write(self, data: bytes) -> None:
        """Append `data`, with backpressure from the receiver."""
        ...

    async def commit(self) -> None:
        """Finish the file, and wait until the receiver has it."""
        ...


class LayoutSink(Protocol):
    """An OCI layout that is sent to the client (``tar=false``)."""

    @property
    def store(self) -> ContentStore:
        """The store for its blobs."""
        ...

    async def publish(self, root: Descriptor, names: tuple[str, ...]) -> None:
        """Add `root` to ``index.json`` under `names`. All of its blobs must have been written."""
        ...


class Output(Protocol):
    """The client's side of ``dest=``: the destination of archives and files.

    In the same process, it is a path; with a server, it is the client's session, as in BuildKit.
    """

    def file(self, response: Mapping[str, str]) -> AbstractAsyncContextManager[FileSink]:
        """Open the single file of an archive exporter.

        `response` holds the response keys known so far. Like BuildKit, we send them ahead of the file.
        """
        ...

    def layout(self) -> AbstractAsyncContextManager[LayoutSink]:
        """Open the directory of an image exporter."""
        ...

    async def directory(
        self,
        entries: Iterable[FileEntry],
        *,
        delete: bool = False,
        on_sent: Callable[[int], None] | None = None,
    ) -> None:
        """Write files into the client's directory, in addition to what it already contains.

        Several trees can be written in sequence. All files belong to the client's user and group. On failure
        or cancellation, files that have been written stay, but no file is incomplete.

        Args:
            entries: The files, in order; iterated once.
            delete: Whether to remove everything else from the directory after all files have been written.
            on_sent: Called with the number of additional bytes sent.

        Raises:
            InvalidArgumentError: the entries are out of order, or outside of the directory.
        """
        ...


class NamedStore(ContentStore, Protocol):
    """A content store with named images, such as an OCI layout or containerd."""

    async def publish(
        self, descriptor: Descriptor, names: Sequence[str] = (), *, epoch: int | None = None
    ) -> None:
        """Point `names` to an image or an index, all of whose blobs must be in the store.

        Without names, the image is still kept if the store supports that.

        Args:
            descriptor: The descriptor of the image or index.
            names: The names, which are used verbatim.
            epoch: For stores that record when an image was named: Unix seconds to record instead of the
                current time.

        Raises:
            FailedPreconditionError: a blob that it references is missing.
        """
        ...


@runtime_checkable
class UnpackingStore(NamedStore, Protocol):
    """A store that can unpack layers, such as containerd with its snapshotters."""

    async def unpack(self, root: Descriptor) -> None:
        """Unpack an image in the store, or the image of an index that fits this machine.

        Raises:
            DataLossError: a layer's diff ID does not match the config.
            NotFoundError: the index has no image for this machine.
        """
        ...


class Pusher(Protocol):
    """Pushes images to registries, such as `exporter.remotes.registry.push`."""

    async def __call__(
        self,
        provider: Provider,
        root: Descriptor,
        name: str,
        *,
        by_digest: bool = False,
        insecure: bool = False,
        sources: DistributionSources | None = None,
        progress: VertexProgress,
    ) -> DistributionSources:
        """Push an image or an index with everything that it references. Can be retried.

        Args:
            provider: Has the blobs.
            root: The descriptor of the image or index.
            name: Repository and tag; the default tag is ``latest``.
            by_digest: Push without a tag.
            insecure: Allow plain HTTP and unverified TLS.
            sources: Repositories known to have certain blobs.
            progress: The vertex to report to.

        Returns:
            `sources` plus the repository that now has the blobs; for the push under the next name.
        """
        ...


class Puller(Protocol):
    """Opens images in registries, to be read."""

    def __call__(
        self, name: str, *, insecure: bool = False
    ) -> AbstractAsyncContextManager[tuple[Provider, Descriptor]]:
        """Open an image.

        Args:
            name: Its name; the default tag is ``latest``.
            insecure: Allow plain HTTP and unverified TLS.

        Returns:
            A provider of its blobs, and the descriptor of its manifest or index.
        """
        ...


class PublishHook(Protocol):
    """Runs the operator's hook for an image (``before-publish``)."""

    async def __call__(self, root: Descriptor, provider: Provider, names: Sequence[str] = ()) -> None:
        """See `ExportContext.before_publish`."""
        ...
