"""Looking up the refs of a build result by platform, with BuildKit's error texts."""

from __future__ import annotations

from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.image import ResultPlatform
from exporter.image.keys import PLATFORMS
from exporter.source.types import Ref, Source

__all__ = ["check_mapping", "find_ref"]


def check_mapping(source: Source) -> None:
    """Check that a result with refs by platform describes its platforms.

    Raises:
        InvalidArgumentError: it does not.
    """
    if source.refs and PLATFORMS not in source.metadata:
        raise InvalidArgumentError(
            "unable to export multiple refs, missing platforms mapping", field="source.metadata"
        )


def find_ref(source: Source, platform: ResultPlatform) -> Ref | None:
    """The ref of a platform; None if the platform has no layers.

    Raises:
        NotFoundError: the result has no entry for the platform.
    """
    ref, found = source.find_ref(platform.id)
    if not found:
        raise NotFoundError(f"failed to find ref for ID {platform.id}", field="source.refs")
    return ref
