"""Images as values, made of build results; see `ExportContext.image`."""

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
    """The attributes of an exporter for `ExportContext.image`, if it passes the image to another exporter.

    These cannot be made up for later. The other exporter gets all attributes, and heeds the rest.
    """
    return {key: value for key, value in attrs.items() if key in _KEYS}


async def make_image(source: Source, context: ExportContext, attrs: Mapping[str, str]) -> Image | ImageIndex:
    """Make the image that BuildKit would make of a build result."""
    options = ArchiveExporterOptions.resolve(attrs)
    source = source.with_metadata(options.meta)
    commit = options.commit.for_export(
        source.metadata,
        has_attestations=bool(source.attestations),
        compatibility_version=context.build.compatibility_version,
    )
    # Attestations name the image that they are about, so they are made when it is written.
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
