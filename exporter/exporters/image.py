"""BuildKit's exporter ``image``: an image in a store under its names, pushed to registries on request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from exporter.content.protocol import Provider
from exporter.errors import ExporterError
from exporter.exporters.attribute_help import IMAGE_ATTRIBUTES
from exporter.exporters.base import Attribute, ExportContext, Exporter, ExportResult, FinalizeContext
from exporter.exporters.destinations import Pusher, UnpackingStore
from exporter.exporters.response import image_response
from exporter.exporters.sanitize import Sanitizer
from exporter.exporters.storing import distribution_sources, store_image
from exporter.exporters.writer import CommittedImage, ImageWriter
from exporter.image import (
    CompressionConfig,
    ImageError,
    ImageExporterOptions,
    ImageNames,
    PlatformMatcher,
    Reference,
    host_platform,
    parse_platforms,
    resolve_image_name,
)
from exporter.image.keys import IMAGE_NAME
from exporter.image.options import attributes as keys
from exporter.source.types import Source

if TYPE_CHECKING:
    from exporter.remotes.registry import DistributionSources

__all__ = ["ImageExporter", "RegistryExporter"]


class ImageExporter(Exporter):
    """An image in the image store (``type=image``).

    Export stores and names it; finalize pushes it. ``unpack`` is a no-op if the store has no snapshotter,
    such as the embedded store. ``unsafe-internal-store-allow-incomplete`` has no effect, because all
    available layers are always stored.
    """

    type: ClassVar[str] = "image"
    title: ClassVar[str] = "Image in the image store, pushed to registries on request"
    attributes: ClassVar[tuple[Attribute, ...]] = IMAGE_ATTRIBUTES

    def __init__(self, attrs: Mapping[str, str]) -> None:
        super().__init__(attrs)
        self._sanitizer, rest = Sanitizer.take(attrs)
        self._options = ImageExporterOptions.resolve(rest)
        if self._options.push:
            _check_pushed_names(self._options)

    @property
    def name(self) -> str:
        """See `Exporter.name`."""
        return "exporting to image"

    @property
    def compression(self) -> CompressionConfig:
        """See `Exporter.compression`."""
        return self._options.commit.compression

    @property
    def needs_store(self) -> bool:
        """See `Exporter.needs_store`."""
        return self._options.store

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        """Write the image, store it and name it."""
        source = source.with_metadata(self._options.meta)
        self._check_unpack(source)
        source = await self._sanitizer.apply(source, context, self.attrs)
        options = self._options.commit.for_export(
            source.metadata,
            has_attestations=bool(source.attestations),
            compatibility_version=context.build.compatibility_version,
        )
        image = await ImageWriter(self.type, options, context).commit(source)
        names = self._options.names(source.metadata, image.root.digest)
        response = image_response(image.root, image.config_digest)
        if names.value:
            response[IMAGE_NAME] = names.value
        await context.before_publish(image.root, image.provider, names.targets)
        provider = image.provider
        if self._options.store:
            await self._store(source, image, names, context)
            provider = context.store
        finalize = None
        if self._options.push and names.value:
            finalize = _Push(self._options, image, names.targets, provider, context.pusher)
        return ExportResult(
            response=response, descriptor=image.root, finalize=finalize, provider=image.provider
        )

    def _check_unpack(self, source: Source) -> None:
        """Reject ``unpack`` with ``rewrite-timestamp``: BuildKit would unpack the ref's original layers.

        BuildKit fails after it has named the image. We fail first, so that no name moves.
        """
        options = self._options
        named = resolve_image_name(options.commit.image_name, source.metadata) or options.dangling_prefix
        if named and options.store and options.unpack and options.commit.rewrite_timestamp:
            raise keys.AttributeValueError(
                keys.UNPACK, f'exporter option "{keys.REWRITE_TIMESTAMP}" conflicts with "{keys.UNPACK}"'
            )

    async def _store(
        self, source: Source, image: CommittedImage, names: ImageNames, context: ExportContext
    ) -> None:
        store, epoch = context.store, self._options.commit.epoch
        await store_image(store, image)
        if not names.value:
            await store.publish(image.root)
        for target in names.targets:
            stored = names.stored(target, image.root.digest)
            with context.progress.status(f"naming to {target}"):
                await store.publish(image.root, stored, epoch=epoch.value if epoch is not None else None)
            if self._options.unpack and isinstance(store, UnpackingStore) and _runs_here(source):
                with context.progress.status(f"unpacking to {stored[-1]}"):
                    await store.unpack(image.root)


class RegistryExporter(ImageExporter):
    """An image in registries: ``image`` with push by default (``type=registry``)."""

    type: ClassVar[str] = "registry"
    title: ClassVar[str] = "Image pushed to registries; the same as image with push=true"
    attributes: ClassVar[tuple[Attribute, ...]] = tuple(
        Attribute(a.name, a.kind, "true", a.help) if a.name == keys.PUSH else a for a in IMAGE_ATTRIBUTES
    )

    def __init__(self, attrs: Mapping[str, str]) -> None:
        super().__init__({keys.PUSH: "true", **attrs})


@dataclass(frozen=True, slots=True)
class _Push:
    """Pushes an image under each of its names. Can be retried."""

    options: ImageExporterOptions
    image: CommittedImage
    names: tuple[str, ...]
    provider: Provider
    pusher: Pusher | None

    async def __call__(self, context: FinalizeContext) -> Mapping[str, str]:
        push = self.pusher or _built_in_pusher()
        # Each push tells the next one which repositories have the blobs, for cross-repository mounts.
        sources: DistributionSources = distribution_sources(self.image.layers)
        for name in self.names:
            try:
                _check_pushed_name(name, by_digest=self.options.push_by_digest)
                sources = await push(
                    self.provider,
                    self.image.root,
                    name,
                    by_digest=self.options.push_by_digest,
                    insecure=self.options.insecure,
                    sources=sources,
                    progress=context.progress,
                )
            except ExporterError as error:
                raise type(error)(f"failed to push {name}: {error.message}", field=error.field) from error
            except ImageError as error:
                raise ImageError(f"failed to push {name}: {error}") from error
        return {}


def _built_in_pusher() -> Pusher:
    # Imported late, because the client is slow to import, and most exports do not push.
    from exporter.remotes.registry.push import push

    return push


def _check_pushed_names(options: ImageExporterOptions) -> None:
    """Before the build, reject names that cannot be pushed, if they are known by then."""
    name = options.commit.image_name
    for target in name.split(",") if name not in {"", "*"} else ():
        try:
            _check_pushed_name(target, by_digest=options.push_by_digest)
        except ImageError as error:
            raise keys.AttributeValueError(keys.NAME, f"failed to push {target}: {error}") from error


def _check_pushed_name(name: str, *, by_digest: bool) -> None:
    reference = Reference.parse(name)
    if by_digest and not reference.is_name_only:
        raise ImageError(f"can't push tagged ref {reference} by digest")


def _runs_here(source: Source) -> bool:
    """Whether the result's best platform for this machine has layers; otherwise, nothing is unpacked."""
    matcher = PlatformMatcher.only(host_platform())
    suitable = [item for item in parse_platforms(source.metadata) if matcher.match(item.platform)]
    if not suitable:
        return False
    best = min(suitable, key=lambda item: matcher.rank(item.platform))
    return source.find_ref(best.id)[0] is not None
