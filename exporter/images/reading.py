"""Reading images from the blobs of a manifest or an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from exporter.content.copy import read_blob
from exporter.content.manifest import children
from exporter.content.protocol import Provider
from exporter.errors import FailedPreconditionError
from exporter.image import Descriptor, Platform, ResultPlatform, diff_ids_of
from exporter.image.config.go_types import IMAGE
from exporter.image.go import json as gojson
from exporter.image.keys import DIFF_ID
from exporter.image.media_types import INDEX_TYPES
from exporter.images import documents
from exporter.images.image import Image
from exporter.images.index import ImageIndex
from exporter.images.layer import ImageLayer
from exporter.images.origin import ImageOrigin, Workshop
from exporter.source.types import Source


async def read_image(
    provider: Provider,
    root: Descriptor,
    workshop: Workshop,
    *,
    source: Source | None = None,
    platforms: Sequence[ResultPlatform] = (),
    known: Mapping[str, Descriptor] | None = None,
) -> Image | ImageIndex:
    """Read an image or an index. Layers are not read.

    Args:
        provider: Provides the blobs. It must outlive the image.
        root: The descriptor of the manifest or index.
        workshop: The resources for changes of the images.
        source: The build result that the images were made from.
        platforms: The platforms of the index's manifests, in order. If empty, those of its descriptors are
            used.
        known: Descriptors of layers with internal annotations, by digest.

    Raises:
        DataLossError: a blob does not match its descriptor.
        FailedPreconditionError: a config and its manifest contradict each other.
        ImageError, InvalidArgumentError: a document is malformed.
        NotFoundError: a blob is missing.
    """
    source = source or Source()
    if root.media_type not in INDEX_TYPES:
        ids = [platform.id for platform in platforms[:1]] or [""]
        return await _image(provider, root, workshop, ImageOrigin(source, ids[0]), known or {})
    data = await read_blob(provider, root)
    manifests = children(root, data)
    if not platforms:
        platforms = [
            ResultPlatform(item.platform.format_all(), item.platform)
            for item in manifests
            if item.platform is not None and item.platform.os != "unknown"
        ]
        manifests = tuple(
            item for item in manifests if item.platform is not None and item.platform.os != "unknown"
        )
    images = {}
    for platform, manifest in zip(platforms, manifests, strict=False):
        origin = ImageOrigin(source, platform.id)
        images[platform.id] = await _image(provider, manifest, workshop, origin, known or {})
    return ImageIndex(images, documents.annotations_of(data))


async def _image(
    provider: Provider,
    root: Descriptor,
    workshop: Workshop,
    origin: ImageOrigin,
    known: Mapping[str, Descriptor],
) -> Image:
    manifest = await read_blob(provider, root)
    config_descriptor, *layers = children(root, manifest)
    config = await read_blob(provider, config_descriptor)
    diff_ids = diff_ids_of(config)
    if len(diff_ids) != len(layers):
        raise FailedPreconditionError(
            f"image {root.digest} has {len(layers)} layers, but its config lists {len(diff_ids)}"
        )
    return Image(
        config=config,
        manifest=manifest,
        layers=tuple(
            ImageLayer(_described(layer, diff_id, known.get(layer.digest)), provider)
            for layer, diff_id in zip(layers, diff_ids, strict=True)
        ),
        platform=root.platform or _platform(config),
        workshop=workshop,
        origin=origin,
    )


def _platform(config: bytes) -> Platform:
    parsed: dict[str, object] = gojson.decode(config, IMAGE, "Image")
    return Platform.from_dict(parsed).normalized()


def _described(layer: Descriptor, diff_id: str, known: Descriptor | None) -> Descriptor:
    internal = {} if known is None else known.annotations
    return replace(layer, annotations={**internal, **layer.annotations, DIFF_ID: diff_id})
