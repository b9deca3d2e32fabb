"""The layers of an image, from the refs of a build result to the blobs that go into the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from exporter.content.memory import MemoryStore
from exporter.exporters.base import ExportContext
from exporter.exporters.concurrency import gather
from exporter.image import CommitOptions, media_types
from exporter.source.types import Ref, Remote

__all__ = ["export_layers"]


async def export_layers(
    refs: Sequence[Ref | None], options: CommitOptions, context: ExportContext
) -> list[Remote]:
    """Get the layers of refs as blobs, in the compression and of the kind that the options ask for.

    A ref that is None has no layers (``FROM scratch`` with metadata only).

    Raises:
        NotFoundError: a ref is gone.
    """
    with context.progress.status("exporting layers"):
        return await gather(_export(ref, options, context) for ref in refs)


async def _export(ref: Ref | None, options: CommitOptions, context: ExportContext) -> Remote:
    if ref is None:
        return Remote((), MemoryStore())
    remote = await ref.remote(options.compression)
    return _distributable(remote, prefer_nondistributable=options.prefer_nondist_layers)


def _distributable(remote: Remote, *, prefer_nondistributable: bool) -> Remote:
    """Make layers distributable, or not, as BuildKit's cache does when it hands them out."""
    descriptors = []
    for layer in remote.descriptors:
        media_type = media_types.distributability(
            layer.media_type, has_urls=bool(layer.urls), prefer_nondistributable=prefer_nondistributable
        )
        urls = layer.urls if prefer_nondistributable else ()
        descriptors.append(replace(layer, media_type=media_type, urls=urls))
    return replace(remote, descriptors=tuple(descriptors))
