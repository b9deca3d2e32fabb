"""Choosing among the images that were found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from exporter.cli.failures import UsageError
from exporter.cli.inspect.view import ArtifactView, Contents, ImageView
from exporter.errors import NotFoundError
from exporter.image import ImageError, Platform, Reference

_MIN_PREFIX = 6  # hexadecimal digits that a shortened digest must have


def select(contents: Contents, image: str | None, platform: str | None) -> Contents:
    """Keep the images that are wanted.

    Args:
        contents: What was found.
        image: A name or tag, or (the beginning of) the digest of a manifest or config; None for all.
        platform: Such as ``linux/arm64``; None for all. Keeps no artifacts.

    Raises:
        UsageError: the platform is none.
        NotFoundError: nothing is left; says what there is.
    """
    items = list(contents.items)
    if image is not None:
        items = [item for item in items if is_meant(item.names, _digests(item), image)]
        if not items:
            raise NotFoundError(f"there is no image {image}; the images are: {_listing(contents.items)}")
    if platform is not None:
        wanted = _parse_platform(platform)
        found = [item for item in items if isinstance(item, ImageView)]
        items = [item for item in found if item.platform.normalized() == wanted]
        if not items:
            there = ", ".join(dict.fromkeys(item.platform.format_all() for item in found)) or "none"
            raise NotFoundError(f"there is no image for platform {platform}; platforms: {there}")
    return replace(contents, items=tuple(items))


def _parse_platform(text: str) -> Platform:
    try:
        return Platform.parse(text).normalized()
    except ImageError as error:
        raise UsageError(f"invalid value {text} for --platform: {error}: write OS/ARCH[/VARIANT]") from error


def _digests(item: ImageView | ArtifactView) -> list[str]:
    digests = [item.manifest.digest if item.manifest is not None else ""]
    if isinstance(item, ImageView):
        digests.append(item.config_digest)
    return digests


def is_meant(names: Iterable[str], digests: Iterable[str], wanted: str) -> bool:
    """Whether an image is the one that a user means, by a name or by (the beginning of) a digest."""
    names = list(names)
    if wanted in names or _normalized(wanted) in map(_normalized, names):
        return True
    digits = wanted.removeprefix("sha256:")
    return len(digits) >= _MIN_PREFIX and any(
        digest.removeprefix("sha256:").startswith(digits) for digest in digests
    )


def _normalized(name: str) -> str:
    """The name as archives and stores write it in full; two spellings of one name are the same."""
    try:
        return str(Reference.parse(name).tag_name_only())
    except ImageError:
        return name


def _listing(items: Iterable[ImageView | ArtifactView]) -> str:
    names = [
        name
        for item in items
        for name in item.names or ([item.manifest.digest] if item.manifest is not None else [])
    ]
    return ", ".join(dict.fromkeys(names)) or "only images without a name"
