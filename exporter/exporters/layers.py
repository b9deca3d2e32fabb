"""Getting the layers of an image from the refs of a build result."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from exporter.content.concurrency import gather
from exporter.content.memory import MemoryStore
from exporter.image import (
    CommitOptions,
    ImageError,
    ResultPlatform,
    diff_ids_of,
    export_epoch,
    media_types,
    parse_key,
)
from exporter.image.keys import IMAGE_BASE_CONFIG
from exporter.layer.convert import LayerConverter
from exporter.progress.producer import VertexProgress
from exporter.source.types import Ref, Remote, Source

__all__ = ["LayerExport"]

logger = logging.getLogger(__name__)


class LayerExport:
    """Gets the layers of one image.

    Args:
        options: Compression and other options of layers.
        converter: Converts layers as necessary.
        progress: The vertex of the export.
    """

    def __init__(self, options: CommitOptions, converter: LayerConverter, progress: VertexProgress) -> None:
        self._options = options
        self._converter = converter
        self._progress = progress

    async def export(self, refs: Sequence[Ref | None]) -> list[Remote]:
        """Get the layers of refs as blobs, with the compression and media types that the options request.

        A ref that is None has no layers (``FROM scratch`` with metadata only).

        Raises:
            DataLossError: a layer that has to be converted is damaged.
            InvalidArgumentError: a layer cannot be converted.
            NotFoundError: a ref or a layer no longer exists.
        """
        with self._progress.status("exporting layers"):
            return await gather(self._export(ref) for ref in refs)

    async def rewrite_timestamps(self, source: Source, platform: ResultPlatform, remote: Remote) -> Remote:
        """Clamp the times in a platform's layers to its epoch, if requested.

        Raises:
            ImageError: the config of the base image cannot be read; with BuildKit's text.
            DataLossError, InvalidArgumentError, NotFoundError: as in `export`.
        """
        if not self._options.rewrite_timestamp:
            return remote
        epoch = export_epoch(self._options.epoch, source.metadata, platform.id)
        if epoch is None:
            # As in BuildKit, the client gets no warning.
            logger.warning("rewrite-timestamp is specified, but no source-date-epoch was found")
            return remote
        return await self._converter.rewrite_timestamps(
            remote, self._options.compression, epoch, base_diff_ids=_base_diff_ids(source, platform)
        )

    async def _export(self, ref: Ref | None) -> Remote:
        if ref is None:
            return Remote((), MemoryStore())
        remote = await ref.remote(self._options.compression)
        remote = _distributable(remote, prefer_nondistributable=self._options.prefer_nondist_layers)
        return await self._converter.convert(remote, self._options.compression)


def _distributable(remote: Remote, *, prefer_nondistributable: bool) -> Remote:
    """Make layers distributable or nondistributable, as BuildKit's cache does when it returns them."""
    descriptors = []
    for layer in remote.descriptors:
        media_type = media_types.distributability(
            layer.media_type, has_urls=bool(layer.urls), prefer_nondistributable=prefer_nondistributable
        )
        urls = layer.urls if prefer_nondistributable else ()
        descriptors.append(replace(layer, media_type=media_type, urls=urls))
    return replace(remote, descriptors=tuple(descriptors))


def _base_diff_ids(source: Source, platform: ResultPlatform) -> tuple[str, ...]:
    config = parse_key(source.metadata, IMAGE_BASE_CONFIG, platform.id)
    if not config:
        return ()
    try:
        return diff_ids_of(config)
    except ImageError as error:
        raise ImageError(f"failed to unmarshal base image config: {error}") from error
