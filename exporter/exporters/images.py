"""Images as values, made of build results; see `ExportContext.image`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from exporter.exporters.base import ExportContext
from exporter.exporters.writer import ImageWriter
from exporter.image import ArchiveExporterOptions, parse_platforms
from exporter.images import Image, ImageIndex, Workshop
from exporter.images.reading import read_image
from exporter.source.types import Source

__all__ = ["make_image"]


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
    image = await ImageWriter("image", commit, context).commit(replace(source, attestations={}))
    workshop = Workshop(context.scratch, context.max_content_bytes, commit.compression)
    return await read_image(
        image.provider,
        image.root,
        workshop,
        source=source,
        platforms=parse_platforms(source.metadata),
        known={layer.digest: layer for layer in image.layers},
    )
