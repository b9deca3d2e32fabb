"""Writing images as BuildKit's image exporter does (``exporter/containerimage.ImageWriter``).

A build result becomes a single manifest, or an index if it is keyed by platform or has attestations. The
computed documents (configs, manifests, statements, the index) are kept in memory; layers are referenced, not
copied. The exporters decide where to write all that.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from exporter.content.copy import write_blob
from exporter.content.memory import MemoryStore
from exporter.content.overlay import MultiProvider
from exporter.content.protocol import Provider
from exporter.content.spool import SpoolingProvider
from exporter.errors import InvalidArgumentError
from exporter.exporters.attestations.layers import make_statements
from exporter.exporters.attestations.purl import image_purl
from exporter.exporters.attestations.sbom import SBOMSupplement
from exporter.exporters.attestations.statements import StatementSubject, is_inline_only
from exporter.exporters.base import ExportContext
from exporter.exporters.inline_cache import find_inline_cache
from exporter.exporters.layers import LayerExport
from exporter.exporters.result_refs import check_mapping, find_ref
from exporter.image import (
    Annotations,
    CommitOptions,
    Descriptor,
    ImageError,
    ResultPlatform,
    attestation_manifest,
    buildkit_image,
    digest_bytes,
    export_epoch,
    index_bytes,
    parse_key,
    parse_platforms,
)
from exporter.image.keys import IMAGE_BASE_CONFIG, IMAGE_CONFIG
from exporter.image.media_types import DOCKER_MANIFEST_LIST, OCI_INDEX
from exporter.images import Image, ImageLayer, ImageRef
from exporter.layer.convert import LayerConverter
from exporter.source.types import Ref, Remote, Source

__all__ = ["CommittedImage", "ImageWriter"]


@dataclass(frozen=True, slots=True)
class CommittedImage:
    """An image that is complete, but not yet stored anywhere.

    Attributes:
        root: The descriptor of its manifest or index.
        config_digest: The digest of its config; ``""`` if the root is an index.
        provider: Provides its blobs, as long as the source exists.
        layers: The layers of all platforms, with the daemon's annotations.
    """

    root: Descriptor
    config_digest: str
    provider: Provider
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """One platform of a build result. The ref is None if the platform has no layers."""

    platform: ResultPlatform
    ref: Ref | None
    remote: Remote


class ImageWriter:
    """Turns one build result into one image.

    Args:
        exporter_type: The exporter's type, for messages.
        options: How to write the image, completed by `CommitOptions.for_export`.
        context: The export's context.
        is_shown: Whether to report the digests of documents; not if nobody will see this image.
    """

    def __init__(
        self,
        exporter_type: str,
        options: CommitOptions,
        context: ExportContext,
        *,
        is_shown: bool = True,
    ) -> None:
        self._is_shown = is_shown
        self._exporter_type = exporter_type
        self._options = options
        self._context = context
        self._blobs = MemoryStore()
        self._provider = MultiProvider(self._blobs)

    async def commit(self, source: Source) -> CommittedImage:
        """Write the image.

        Raises:
            ImageError: the image cannot be computed from the build result; with BuildKit's text.
            InvalidArgumentError: the parts of the build result are inconsistent; with BuildKit's text.
            NotFoundError: a ref or a layer no longer exists.
            DataLossError: a layer that has to be converted is damaged.
        """
        check_mapping(source)
        self._options.check_compatibility(self._context.build.compatibility_version, self._exporter_type)
        platforms = parse_platforms(source.metadata)
        self._options.annotations.check(
            has_ref=lambda platform_id: source.find_ref(platform_id)[1],
            oci_types=self._options.oci_types_enabled,
        )
        context = self._context
        async with LayerConverter(
            context.scratch, cache=context.layer_cache, progress=context.progress
        ) as converter:
            layers = LayerExport(self._options, converter, context.progress)
            if source.refs or any(self._needs_index(source, platform) for platform in platforms):
                return await self._commit_index(source, platforms, layers)
            if len(platforms) > 1:
                raise InvalidArgumentError(
                    "cannot export multiple platforms without multi-platform enabled", field="source.metadata"
                )
            return await self._commit_single(source, platforms[0], layers)

    def _needs_index(self, source: Source, platform: ResultPlatform) -> bool:
        """Whether the attestations of a platform require an index."""
        attestations = source.attestations.get(platform.id, ())
        if self._options.force_inline_attestations:
            return bool(attestations)
        return not all(is_inline_only(attestation) for attestation in attestations)

    async def _commit_single(
        self, source: Source, platform: ResultPlatform, layers: LayerExport
    ) -> CommittedImage:
        annotations = self._options.annotations.platform(None)
        if annotations.index or annotations.index_descriptor:
            raise ImageError("index annotations not supported for single platform export")
        ref, _ = source.find_ref(platform.id)
        (remote,) = await layers.export([ref])
        part = _Part(platform, ref, await layers.rewrite_timestamps(source, platform, remote))
        manifest, config_digest = await self._commit_manifest(source, part, annotations)
        return CommittedImage(manifest, config_digest, self._provider, part.remote.descriptors)

    async def _commit_index(
        self, source: Source, platforms: Sequence[ResultPlatform], layers: LayerExport
    ) -> CommittedImage:
        if source.attestations and not self._options.oci_types_enabled:
            raise ImageError('cannot export attestations with "oci-mediatypes=false"')
        refs = [find_ref(source, platform) for platform in platforms]
        remotes = await layers.export(refs)
        parts: list[_Part] = []
        manifests: list[Descriptor] = []
        about_manifests: list[Descriptor] = []
        for platform, ref, remote in zip(platforms, refs, remotes, strict=True):
            part = _Part(platform, ref, await layers.rewrite_timestamps(source, platform, remote))
            parts.append(part)
            annotations = self._options.annotations.platform(part.platform.platform)
            manifest, _ = await self._commit_manifest(source, part, annotations)
            manifests.append(manifest)
            if part.platform.id in source.attestations:
                about_manifests.append(await self._commit_attestations(source, part, manifest))
        annotations = self._options.annotations.platform(None)
        media_type = OCI_INDEX if self._options.oci_types_enabled else DOCKER_MANIFEST_LIST
        data = index_bytes(manifests + about_manifests, media_type=media_type, annotations=annotations.index)
        index = Descriptor(
            media_type, digest_bytes(data), len(data), annotations=annotations.index_descriptor
        )
        await self._stage(data, index, "exporting manifest list")
        all_layers = tuple(layer for part in parts for layer in part.remote.descriptors)
        return CommittedImage(index, "", self._provider, all_layers)

    async def _commit_manifest(
        self, source: Source, part: _Part, annotations: Annotations
    ) -> tuple[Descriptor, str]:
        """Write a platform's config and manifest; return the manifest descriptor and the config digest."""
        # After the layers, because a lazily pulled layer gets its description when it is pulled.
        chain = None if part.ref is None else await part.ref.layer_chain()
        platform, layers = part.platform, part.remote.descriptors
        for layer in layers:
            self._provider.add(layer.digest, part.remote.provider)
        finished = self._finished(source, part, annotations)
        if finished is not None:
            config, descriptor = finished.config_descriptor, finished.descriptor
            await self._stage(finished.manifest, descriptor, "exporting manifest")
            await self._stage(finished.config, config, "exporting config")
            manifest = replace(
                descriptor, annotations=annotations.manifest_descriptor, platform=platform.platform
            )
            return manifest, config.digest
        image = buildkit_image(
            parse_key(source.metadata, IMAGE_CONFIG, platform.id) or b"",
            [layer.to_dict() for layer in layers],
            None if chain is None else [layer.metadata() for layer in chain],
            oci_mediatypes=self._options.oci_types_enabled,
            epoch=export_epoch(self._options.epoch, source.metadata, platform.id),
            base_config=parse_key(source.metadata, IMAGE_BASE_CONFIG, platform.id),
            inline_cache=find_inline_cache(self._context.build, platform.id),
            manifest_annotations=annotations.manifest,
        )
        await self._stage(image.manifest, image.manifest_descriptor, "exporting manifest")
        await self._stage(image.config, image.config_descriptor, "exporting config")
        manifest = replace(
            image.manifest_descriptor, annotations=annotations.manifest_descriptor, platform=platform.platform
        )
        return manifest, image.config_descriptor.digest

    def _finished(self, source: Source, part: _Part, annotations: Annotations) -> Image | None:
        """The image of a platform if an exporter has made it (`Image.source`): only layers may differ yet."""
        config = parse_key(source.metadata, IMAGE_CONFIG, part.platform.id)
        if not isinstance(part.ref, ImageRef) or config != part.ref.image.config:
            return None
        image = part.ref.image.with_media_types(oci=self._options.oci_types_enabled)
        layers = [ImageLayer(layer, part.remote.provider) for layer in part.remote.descriptors]
        if [layer.digest for layer in layers] != [layer.digest for layer in image.layers]:
            image = image.with_layers(layers, same_files=True)
        return image.with_annotations(annotations.manifest) if annotations.manifest else image

    async def _commit_attestations(self, source: Source, part: _Part, image: Descriptor) -> Descriptor:
        """Write the manifest of a platform's attestations; return its descriptor for the index."""
        names = filter(None, self._options.image_name.split(","))
        platform = part.platform
        subjects = [
            StatementSubject.of(image_purl(name, platform.platform), [image.digest]) for name in names
        ]
        chain = None if part.ref is None else await part.ref.layer_chain()
        # The layers that are read for an SBOM are written to the image later, too.
        spool = SpoolingProvider(part.remote.provider, self._context.scratch)
        statements = await make_statements(
            source.attestations[platform.id],
            subjects,
            SBOMSupplement(chain, replace(part.remote, provider=spool), self._context.build.builder),
            self._context.scratch,
        )
        for digest in spool.kept:
            self._provider.add(digest, spool)
        manifest = attestation_manifest(
            image,
            [(statement.data, statement.predicate_type) for statement in statements],
            oci=self._options.oci_types_enabled,
            artifact=self._options.oci_artifact_enabled,
        )
        for statement, layer in zip(statements, manifest.layers, strict=True):
            await write_blob(self._blobs, statement.data, layer)
        await write_blob(self._blobs, manifest.config, manifest.config_descriptor)
        await self._stage(manifest.manifest, manifest.descriptor, "exporting attestation manifest")
        return manifest.descriptor

    async def _stage(self, data: bytes, descriptor: Descriptor, activity: str) -> None:
        """Keep a computed document in memory, and report it."""
        shown = self._context.progress.status(f"{activity} {descriptor.digest}")
        with shown if self._is_shown else nullcontext():
            await write_blob(self._blobs, data, descriptor)
