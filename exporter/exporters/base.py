"""The SDK: the base class of exporters, and what they work with.

A new kind of output is a subclass of `Exporter`. It declares its type and attributes, parses them in
`__init__`, and turns a `Source` into an artifact in `export`. This mirrors BuildKit's ``Exporter.Resolve`` →
``ExporterInstance.Export`` → (response, finalize, descriptor), so the order of events is the same as in the
daemon. Built-in exporters use the same API.
"""

from __future__ import annotations

import abc
import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Protocol,
    cast,
    get_args,
    get_origin,
)

from typing_extensions import TypeVar

from exporter.content.protocol import Provider
from exporter.content.threads import run_in_thread
from exporter.exporters.destinations import NamedStore, Output, PublishHook, Puller, Pusher
from exporter.exporters.image_types import pushes_image
from exporter.exporters.options import OptionSpec
from exporter.image import CompressionConfig, Descriptor
from exporter.layer.limits import MAX_CONTENT_BYTES
from exporter.lazy import named
from exporter.progress.producer import VertexProgress
from exporter.source.types import BuildInfo, Source

if TYPE_CHECKING:
    from exporter.content.images import ImageStore
    from exporter.images import Image, ImageIndex
    from exporter.layer.cache import LayerCache


O_co = TypeVar("O_co", covariant=True, default=object)
"""The dataclass with an exporter's options."""


class ArtifactKind(enum.Enum):
    """The kind of artifact that an exporter creates."""

    IMAGE = 1
    """An image in a store or registry."""
    ARCHIVE = 2
    """One file, such as an image archive or a tarball."""
    FILES = 3
    """A directory tree."""
    NONE = 4
    """Nothing that stays (a check, a notification)."""


class Uses(enum.Flag):
    """What an export uses of a build result, so that a daemon need not make the rest."""

    LAYERS = enum.auto()
    """Layers: `Ref.remote` and `Ref.layer_chain`."""
    FILES = enum.auto()
    """The files of refs. Without `LAYERS`, a daemon makes layers only if it cannot send files."""
    INLINE_CACHE = enum.auto()
    """`BuildInfo.inline_cache`."""
    ALL = LAYERS | FILES | INLINE_CACHE


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of an exporter, for `exporters --type` and ``ListExporters``.

    Attributes:
        name: The key; a trailing ``*`` stands for a family of keys (``annotation*``).
        kind: ``string``, ``bool``, ``int``, ``enum:a|b|c`` or ``list`` (comma-separated).
        default: The default value as a user would write it; empty if there is none.
        help: One sentence.
    """

    name: str
    kind: str
    default: str
    help: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportContext:
    """What an exporter works with.

    Attributes:
        build: Information about the build.
        progress: The vertex of this export.
        store: The image store: the embedded one, or the containerd that the operator configured. Blobs are
            protected from garbage collection until the export ends, or as long as a name references them.
        images: Images by image ID and their tags, as dockerd keeps them; in addition to `store`.
        scratch: A directory for this export only, removed after the export (and its finalize).
        output: The destination of files for the client; None if the client accepts none.
        pusher: Pushes images with the credentials of the client that asked for the export; None, as in tests,
            for the built-in client with the current user's Docker credentials.
        layer_cache: The cache of converted layers; None if there is none.
        max_content_bytes: Maximum total size of a ref's files, for exporters that unpack layers.
        hook: What `before_publish` runs; None without a hook.
        puller: Reads images from registries with the same credentials as `pusher`; None likewise.
        omit: Digests of layers that archives leave out, because the receiver has them; see `delegate`.
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
    hook: PublishHook | None = None
    puller: Puller | None = None
    omit: frozenset[str] = frozenset()

    async def image(self, source: Source, attrs: Mapping[str, str] | None = None) -> Image | ImageIndex:
        """Make the image that BuildKit would make of a build result, to look at and to change.

        Nothing is written anywhere. The image can be used as long as the export lasts.

        Args:
            source: The build result.
            attrs: Attributes of BuildKit's image exporters, such as ``source-date-epoch``.

        Returns:
            An image, or an index if the result is keyed by platform.

        Raises:
            ImageError, InvalidArgumentError: the image cannot be computed; with BuildKit's text.
            NotFoundError: a ref or a layer no longer exists.
        """
        make: _MakeImage = named("exporter.exporters.images:make_image")
        return await make(source, self, attrs or {})

    @asynccontextmanager
    async def pull(self, name: str, *, insecure: bool = False) -> AsyncIterator[Image | ImageIndex]:
        """Look at an image in a registry, with the credentials of the client that asked for the export.

        Nothing is copied. The image can be used in the block.

        Args:
            name: Its name; the default tag is ``latest``.
            insecure: Allow plain HTTP and unverified TLS.

        Raises:
            ExporterError: the registry cannot be reached, or denies access.
            ImageError, InvalidArgumentError: it is not the name of an image.
            NotFoundError: the registry does not have it.
        """
        from exporter.images import Workshop, read_image
        from exporter.remotes.registry import RegistryPuller

        puller = self.puller or RegistryPuller()
        async with puller(name, insecure=insecure) as (provider, root):
            yield await read_image(provider, root, Workshop(self.scratch, self.max_content_bytes))

    async def delegate(
        self,
        exporter: str | Exporter,
        source: Source,
        attrs: Mapping[str, str] | None = None,
        *,
        omit: frozenset[str] = frozenset(),
    ) -> ExportResult:
        """Export a build result with another exporter, to the destination of this export.

        Return the result, or take over its response, descriptor and finalizer.

        Args:
            exporter: Its type, or an exporter that is already resolved, so that its attributes were validated
                before the build.
            source: The build result, such as `Image.source`.
            attrs: The attributes for a type.
            omit: Digests of layers that an archive (``oci``, ``docker``) leaves out. Its manifest still
                lists them.

        Raises:
            ExporterError: it fails.
            NotFoundError: there is no such type.
        """
        if isinstance(exporter, str):
            registry: _Types = named("exporter.exporters.registry:default_registry")()
            exporter = await run_in_thread(registry.make, exporter, attrs or {})
        run: _Run = named("exporter.exporters.blocking:run_export")
        return await run(exporter, source, replace(self, omit=omit) if omit else self)

    async def write(
        self,
        image: Image | ImageIndex,
        to: str | Exporter | None = None,
        attrs: Mapping[str, str] | None = None,
    ) -> ExportResult:
        """Write an image to the destination of this export: an archive, a layout, a store, or registries.

        Return the result, or take over its response, descriptor and finalizer: pushing is left to that.

        Args:
            image: The image or index.
            to: The type that writes it, or an exporter that is already resolved; see `delegate`. None for
                ``oci`` if the client accepts files and the image is not to be pushed, else ``image``.
            attrs: The attributes for a type, such as ``name``, ``tar`` and ``push``.

        Raises:
            ExporterError: it fails.
            NotFoundError: there is no such type.
        """
        if to is None:
            to = "image" if self.output is None or pushes_image("image", attrs or {}) else "oci"
        return await self.delegate(to, image.source(), attrs)

    async def before_publish(self, root: Descriptor, provider: Provider, names: Sequence[str] = ()) -> None:
        """Run the operator's hook for an image that is about to be published, if the export has one.

        The destinations of this context do that as well. Call it earlier if the hook should not wait for work
        that is useless when it refuses, or before you publish something anywhere else.

        Args:
            root: The descriptor of the image or index.
            provider: Provides its blobs.
            names: The names under which it is about to be published.

        Raises:
            ExporterError: the hook refuses. Do not publish anything.
        """
        if self.hook is not None:
            await self.hook(root, provider, names)


Finalize = Callable[["FinalizeContext"], Awaitable[Mapping[str, str]]]
"""Publishes an artifact, and returns additional response keys.

Must be idempotent: after a failure it is called again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalizeContext:
    """What a finalizer works with: the progress vertex to report to."""

    progress: VertexProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """The result of an export.

    Attributes:
        response: BuildKit's response keys (``containerimage.digest``, ``image.name``, …).
        descriptor: The root descriptor of the artifact, if it is an image.
        provider: Has the index, the manifests and the configs of the image, as long as the source exists. A
            daemon gets copies of them for its history of builds. None if it should get none.
        finalize: Publishes the artifact; None if there is nothing left to do.
    """

    response: Mapping[str, str] = field(default_factory=dict)
    descriptor: Descriptor | None = None
    finalize: Finalize | None = None
    provider: Provider | None = field(default=None, compare=False, repr=False)


class _Types(Protocol):
    """The registry of exporters, as far as `ExportContext` needs it."""

    def make(self, exporter_type: str, attrs: Mapping[str, str]) -> Exporter: ...


# `ExportContext` makes images and runs other exporters. The functions for that take a context themselves, so
# its methods look them up by name instead of importing their modules, as the registry does with the types.
_MakeImage = Callable[[Source, ExportContext, Mapping[str, str]], Awaitable["Image | ImageIndex"]]
_Run = Callable[["Exporter", Source, ExportContext], Awaitable[ExportResult]]


class Exporter(abc.ABC, Generic[O_co]):
    """A kind of output, resolved with its attributes.

    The class declares the type and its attributes; an instance is one use of it (BuildKit:
    ``ExporterInstance``). The constructor must be cheap and without I/O: a daemon calls it before the build,
    so that a typo costs seconds, not a build. As in BuildKit, unknown attributes are not an error.

    ``Exporter[Options]`` takes the attributes from a frozen dataclass; see `option`. An exporter without such
    a class declares `attributes`, and parses them in ``__init__``.
    """

    type: ClassVar[str]
    """The name after ``--output type=``."""
    title: ClassVar[str]
    """One line for lists."""
    attributes: ClassVar[tuple[Attribute, ...]] = ()
    artifact: ClassVar[ArtifactKind] = ArtifactKind.IMAGE
    """What it creates by default; see `creates`."""

    option_spec: ClassVar[OptionSpec | None] = None
    """The options of ``Exporter[Options]``; set by the class statement."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Read the declaration of the options.

        Raises:
            TypeError: the options cannot be attributes; see `OptionSpec`.
        """
        super().__init_subclass__(**keywords)
        declared = _options_of(cls)
        if declared is None:
            return
        cls.option_spec = OptionSpec(declared)
        fields = [Attribute(item.name, item.kind, item.default, item.help) for item in cls.option_spec.fields]
        names = {item.name for item in fields}
        cls.attributes = (*fields, *(item for item in cls.attributes if item.name not in names))

    def __init__(self, attrs: Mapping[str, str]) -> None:
        """Parse `attrs`, and with ``Exporter[Options]`` make `options` of them.

        Raises:
            ImageError, InvalidArgumentError: an attribute's value is invalid.
        """
        self.attrs = dict(attrs)
        self.__options = None if self.option_spec is None else self.option_spec.parse(attrs)

    @property
    def options(self) -> O_co:
        """The attributes as an instance of the class that ``Exporter[Options]`` names; None without one."""
        return cast(O_co, self.__options)

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The vertex's name in the progress, such as ``exporting to oci image format``."""

    @property
    def compression(self) -> CompressionConfig:
        """The compression for layers, as a hint to the daemon (BuildKit: ``Config().Compression()``)."""
        return CompressionConfig()

    @property
    def uses(self) -> Uses:
        """What this export uses of a build result."""
        return Uses.ALL

    @property
    def creates(self) -> ArtifactKind:
        """What this export creates; differs from `artifact` if that depends on attributes."""
        return self.artifact

    @property
    def needs_store(self) -> bool:
        """Whether the export needs the image store. If so, and it cannot be used, the export fails early."""
        return self.creates is ArtifactKind.IMAGE

    @abc.abstractmethod
    def export(self, source: Source, context: Any) -> ExportResult | Awaitable[ExportResult]:
        """Create the artifact.

        Declare it as ``async def``, with an `ExportContext`. An ordinary function runs in a thread; see
        `BlockingExporter`.

        Cancellation arrives as `asyncio.CancelledError`; roll back unfinished work then.
        """


def _options_of(kind: type[Exporter]) -> type | None:
    """The class in the brackets of ``Exporter[Options]``, or of a generic base class.

    Raises:
        TypeError: it is not a class.
    """
    for base in kind.__dict__.get("__orig_bases__", ()):
        origin, arguments = get_origin(base), get_args(base)
        if not (isinstance(origin, type) and issubclass(origin, Exporter)):
            continue
        declared = arguments[0]
        if isinstance(declared, str) or type(declared).__name__ == "ForwardRef":
            raise TypeError(
                f"{kind.__name__}: declare the class with the options first, and name it without quotes"
            )
        if isinstance(declared, type) and declared is not object:
            return declared
    return None
