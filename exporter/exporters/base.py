"""The SDK: what a kind of output is.

A new kind of output is a subclass of `Exporter`: it names its type and attributes, parses them in `__init__`,
and turns a `Source` into an artifact in `export`. Mirrors BuildKit's ``Exporter.Resolve`` →
``ExporterInstance.Export`` → (response, finalize, descriptor), so the order of events is the daemon's own.
Built-in exporters use nothing else.
"""

from __future__ import annotations

import abc
import enum
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from exporter.content.protocol import ContentStore, Provider
from exporter.image import CompressionConfig, Descriptor
from exporter.layer.limits import MAX_CONTENT_BYTES
from exporter.progress.producer import VertexProgress
from exporter.source.types import BuildInfo, Source

if TYPE_CHECKING:
    from exporter.content.images import ImageStore
    from exporter.exporters.files.entry import FileEntry
    from exporter.layer.cache import LayerCache
    from exporter.remotes.registry import DistributionSources


class ArtifactKind(enum.Enum):
    """What an exporter makes."""

    IMAGE = 1
    """An image in a store or registry."""
    ARCHIVE = 2
    """One file, such as an image archive or a tarball."""
    FILES = 3
    """A directory tree."""
    NONE = 4
    """Nothing that is kept (a check, a notification)."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of an exporter, for `exporters --type` and ``ListExporters``.

    Attributes:
        name: The key; a trailing ``*`` stands for a family of keys (``annotation*``).
        kind: ``string``, ``bool``, ``int``, ``enum:a|b|c`` or ``list`` (comma-separated).
        default: As the user would write it; empty if there is none.
        help: One sentence.
    """

    name: str
    kind: str
    default: str
    help: str


class FileSink(Protocol):
    """One file that goes to the client. Leaving its block without `commit` leaves nothing behind."""

    async def write(self, data: bytes) -> None:
        """Append `data`; waits while the other side is slow."""
        ...

    async def commit(self) -> None:
        """End the file and wait until the other side has it."""
        ...


class LayoutSink(Protocol):
    """An OCI layout that goes to the client (``tar=false``)."""

    @property
    def store(self) -> ContentStore:
        """Where its blobs are written."""
        ...

    async def publish(self, root: Descriptor, names: tuple[str, ...]) -> None:
        """Enter `root` into ``index.json`` under `names`, once all its blobs are there."""
        ...


class Output(Protocol):
    """The client's side of ``dest=``: where files go that leave the store.

    In process this is a path; behind a server it is the client's session, as in BuildKit.
    """

    def file(self, response: Mapping[str, str]) -> AbstractAsyncContextManager[FileSink]:
        """Open the one file of an archive exporter.

        `response` holds the keys known so far; BuildKit sends them ahead of the file, and so do we.
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
        """Write files into the client's directory, beside what is in it already.

        Several trees can be written one after the other. Owner and group of all files are the client's.
        When this fails or is cancelled, files that have been written stay, but none is incomplete.

        Args:
            entries: The files, in order; gone through once.
            delete: Whether everything else is removed from the directory once all files have come.
            on_sent: Told of progress, in bytes.

        Raises:
            InvalidArgumentError: the entries are out of order, or lead out of the directory.
        """
        ...


class NamedStore(ContentStore, Protocol):
    """A content store that has names for images, such as an OCI layout or containerd."""

    async def publish(
        self, descriptor: Descriptor, names: Sequence[str] = (), *, epoch: int | None = None
    ) -> None:
        """Let `names` stand for an image or an index, all of whose blobs are in the store.

        Without names it is kept nevertheless, if the store can do that.

        Args:
            descriptor: Of the image or index.
            names: As they were given; nothing is completed.
            epoch: Unix seconds to note in place of the present, in stores that note when an image was named.

        Raises:
            FailedPreconditionError: something that it points to is missing.
        """
        ...


@runtime_checkable
class UnpackingStore(NamedStore, Protocol):
    """A store with a place for unpacked layers, such as containerd with its snapshotters."""

    async def unpack(self, root: Descriptor) -> None:
        """Unpack what this machine can run of an image or index that is in the store.

        Raises:
            DataLossError: a layer's diff ID is not the one in the config.
            NotFoundError: the index has nothing for this machine.
        """
        ...


class Pusher(Protocol):
    """Sends images to registries. `exporter.remotes.registry.push` is one."""

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
        """Push an image or an index with all that it points to. After a failure this can be repeated.

        Args:
            provider: Where the blobs are.
            root: What to push.
            name: Repository and tag; without a tag, ``latest`` is meant.
            by_digest: Push without a tag.
            insecure: Allow plain HTTP and unverified TLS.
            sources: Which repositories have which blobs already.
            progress: Reports under it.

        Returns:
            `sources`, and that the repository has the blobs now; for the push under the next name.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportContext:
    """What an exporter may use while it works.

    Attributes:
        build: Facts about the build.
        progress: The vertex of this export.
        store: The image store, the destination where nothing else is asked for: the embedded one, or the
            containerd that the operator chose. It keeps what is written to it until the export has ended, and
            what got a name for longer.
        images: Images by image ID and their tags, as dockerd keeps them; beside `store`.
        scratch: A directory of this export alone, removed when the export (and its finalize) is over.
        output: Where files for the client go; None if the client asked for none.
        pusher: Sends images to registries; None for the built-in client with the user's Docker credentials.
        layer_cache: Layers that were converted before; None if none are kept.
        max_content_bytes: Largest sum of the sizes of a ref's files where an exporter unpacks layers.
    """

    build: BuildInfo
    progress: VertexProgress
    store: NamedStore
    images: ImageStore
    scratch: Path
    output: Output | None = None
    pusher: Pusher | None = None
    layer_cache: LayerCache | None = None
    max_content_bytes: int = MAX_CONTENT_BYTES


Finalize = Callable[["FinalizeContext"], Awaitable[Mapping[str, str]]]
"""Publishes an artifact, and returns response keys to add.

Repeatable: after a failure it is called again and must do what is left, or the same again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalizeContext:
    """What a finalizer may use: the progress vertex to report to."""

    progress: VertexProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What an export gave.

    Attributes:
        response: BuildKit's response keys (``containerimage.digest``, ``image.name``, …).
        descriptor: The root descriptor of the artifact, if it is an image.
        finalize: What is left to publish; None if the export did all there is to do.
    """

    response: Mapping[str, str] = field(default_factory=dict)
    descriptor: Descriptor | None = None
    finalize: Finalize | None = None


class Exporter(abc.ABC):
    """A kind of output, resolved with its attributes.

    The class says what the type is and which attributes it has; an instance is one use of it (BuildKit:
    ``ExporterInstance``). Making an instance must be cheap and without I/O: a daemon does it before the
    build, so that a typing error costs seconds and not the build. Unknown attributes are not an error (as in
    BuildKit).
    """

    type: ClassVar[str]
    """The word behind ``--output type=``."""
    title: ClassVar[str]
    """One line for lists."""
    attributes: ClassVar[tuple[Attribute, ...]] = ()
    artifact: ClassVar[ArtifactKind] = ArtifactKind.IMAGE

    def __init__(self, attrs: Mapping[str, str]) -> None:
        """Parse `attrs`.

        Raises:
            ImageError, InvalidArgumentError: an attribute's value cannot be used.
        """
        self.attrs = dict(attrs)

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The vertex's name in the progress, such as ``exporting to oci image format``."""

    @property
    def compression(self) -> CompressionConfig:
        """How layers are wanted; tells a daemon what to prepare (BuildKit: ``Config().Compression()``)."""
        return CompressionConfig()

    @property
    def needs_store(self) -> bool:
        """Whether images go to the image store; where that cannot be used, the export is refused at once."""
        return self.artifact is ArtifactKind.IMAGE

    @abc.abstractmethod
    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        """Make the artifact.

        Cancellation arrives as `asyncio.CancelledError`; whatever was begun must then be undone.
        """
