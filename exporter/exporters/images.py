"""Making images as values from build results; see `ExportContext.image`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from exporter.exporters.base import ExportContext
from exporter.exporters.writer import ImageWriter
from exporter.image import ArchiveExporterOptions, parse_platforms
from exporter.image.options.attributes import (
    COMPRESSION,
    COMPRESSION_LEVEL,
    PREFER_NONDIST_LAYERS,
    SOURCE_DATE_EPOCH,
)
from exporter.images import Image, ImageIndex, Workshop
from exporter.images.reading import read_image
from exporter.source.types import Source

__all__ = ["image_attributes", "make_image"]

_KEYS = frozenset({COMPRESSION, COMPRESSION_LEVEL, PREFER_NONDIST_LAYERS, SOURCE_DATE_EPOCH})


def image_attributes(attrs: Mapping[str, str]) -> dict[str, str]:
    """Select the attributes for `ExportContext.image` in an exporter that delegates to another exporter.

    They must apply when the image is made. Pass all attributes to the other exporter; it applies the rest.
    """
    return {key: value for key, value in attrs.items() if key in _KEYS}


async def make_image(source: Source, context: ExportContext, attrs: Mapping[str, str]) -> Image | ImageIndex:
    """Make the image that BuildKit would make from a build result."""
    options = ArchiveExporterOptions.resolve(attrs)
    source = source.with_metadata(options.meta)
    commit = options.commit.for_export(
        source.metadata,
        has_attestations=bool(source.attestations),
        compatibility_version=context.build.compatibility_version,
    )
    # Attestations refer to the image by its digest, so they are added when it is written.
    writer = ImageWriter("image", commit, context, is_shown=False)
    image = await writer.commit(replace(source, attestations={}))
    workshop = Workshop(context.scratch, context.max_content_bytes, commit.compression)
    return await read_image(
        image.provider,
        image.root,
        workshop,
        source=source,
        platforms=parse_platforms(source.metadata),
        known={layer.digest: layer for layer in image.layers},
    )
