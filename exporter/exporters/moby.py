"""Moby's exporter: an image as in the Docker daemon's own store, with config and layers but no manifest.

The image ID is the digest of the config. dockerd gives the same build the same ID.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from exporter.content.copy import copy_blobs
from exporter.errors import FailedPreconditionError, InvalidArgumentError
from exporter.exporters.attribute_help import MOBY_ATTRIBUTES
from exporter.exporters.base import Attribute, ExportContext, Exporter, ExportResult
from exporter.exporters.inline_cache import find_inline_cache
from exporter.image import (
    Descriptor,
    ImageError,
    MobyExporterOptions,
    digest_bytes,
    moby_config,
    parse_platforms,
    platform_key,
)
from exporter.image.keys import DIFF_ID, IMAGE_CONFIG, IMAGE_CONFIG_DIGEST, IMAGE_DIGEST, IMAGE_NAME
from exporter.image.media_types import OCI_CONFIG
from exporter.source.types import LayerChain, Ref, Remote, Source

__all__ = ["MobyExporter"]


class MobyExporter(Exporter):
    """An image in the embedded store, by its ID and tags (``type=moby``)."""

    type: ClassVar[str] = "moby"
    title: ClassVar[str] = "Image with the ID that dockerd would give it, in the embedded store"
    attributes: ClassVar[tuple[Attribute, ...]] = MOBY_ATTRIBUTES

    def __init__(self, attrs: Mapping[str, str]) -> None:
        super().__init__(attrs)
        self._options = MobyExporterOptions.resolve(attrs)

    @property
    def name(self) -> str:
        """See `Exporter.name`."""
        return "exporting to image"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        """Store the image with its layers, and tag it.

        In dockerd, an image always has its layers. So a chain without blobs is an error.

        Raises:
            InvalidArgumentError: the result has several refs; with moby's text.
            FailedPreconditionError: a layer has no diff ID.
            NotFoundError: a layer's blob is not available.
        """
        ref = _single_ref(source)
        config = _config_of(source)
        if ref is None:
            layers: tuple[Descriptor, ...] = ()
            config = _patch(config, layers, None, context)
        else:
            with context.progress.status("exporting layers"):
                remote = await ref.remote()
                layers = remote.descriptors
                _check_diff_ids(ref, remote)
                # Before anything is stored, because this may fail.
                config = _patch(config, layers, await ref.layer_chain(), context)
                await copy_blobs(context.images.content, remote.provider, layers)
        digest = digest_bytes(config)
        with context.progress.status(f"writing image {digest}"):
            image_id = await context.images.create(config, layers)
        for target in self._options.target_names:
            with context.progress.status(f"naming to {target}"):
                await context.images.tag(str(target), image_id)
        response = {IMAGE_CONFIG_DIGEST: digest, IMAGE_DIGEST: image_id}
        if self._options.image_name:
            response[IMAGE_NAME] = self._options.image_name
        return ExportResult(response=response, descriptor=Descriptor(OCI_CONFIG, digest, len(config)))


def _single_ref(source: Source) -> Ref | None:
    refs = source.refs or {}
    if len(refs) > 1:
        raise InvalidArgumentError(
            "exporting multiple references to image store is currently unsupported", field="source.refs"
        )
    if source.ref is not None and refs:
        raise InvalidArgumentError(
            "invalid exporter input: Ref and Refs are mutually exclusive", field="source.refs"
        )
    return next(iter(refs.values())) if refs else source.ref


def _config_of(source: Source) -> bytes:
    """The config that the frontend set; for a keyed result, the platform's own."""
    if not source.refs:
        return source.metadata.get(IMAGE_CONFIG, b"")
    try:
        platforms = parse_platforms(source.metadata)
    except ImageError as error:
        raise InvalidArgumentError(
            f"cannot export image, failed to parse platforms: {error}", field=getattr(error, "field", None)
        ) from error
    if len(platforms) != len(source.refs):
        raise InvalidArgumentError(
            f"number of platforms does not match references {len(platforms)} {len(source.refs)}",
            field="source.refs",
        )
    return source.metadata.get(platform_key(IMAGE_CONFIG, platforms[0].id), b"")


def _check_diff_ids(ref: Ref, remote: Remote) -> None:
    for position, diff_id in enumerate(remote.diff_ids):
        if not diff_id:
            raise FailedPreconditionError(
                f"layer {position} of ref {ref.id} has no diff ID (annotation {DIFF_ID})"
            )


def _patch(
    config: bytes, layers: Sequence[Descriptor], chain: LayerChain | None, context: ExportContext
) -> bytes:
    return moby_config(
        config,
        [layer.annotations[DIFF_ID] for layer in layers],
        None if chain is None else [layer.metadata() for layer in chain],
        inline_cache=find_inline_cache(context.build, ""),
    )
