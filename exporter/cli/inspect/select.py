"""Selecting images by name, digest or platform."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from exporter.cli.failures import UsageError
from exporter.cli.inspect.view import ArtifactView, Contents, ImageView
from exporter.errors import NotFoundError
from exporter.image import ImageError, Platform, Reference

_MIN_PREFIX = 6  # the minimum number of hexadecimal digits in a shortened digest


def select(contents: Contents, image: str | None, platform: str | None) -> Contents:
    """Filter images.

    Args:
        contents: The images.
        image: A name or tag, or the digest of a manifest or config or a prefix of it; None for all.
        platform: A platform such as ``linux/arm64``; None for all. It also removes artifacts.

    Raises:
        UsageError: the platform is malformed.
        NotFoundError: nothing matches; the message lists what exists.
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
    """Whether a user's name, digest or prefix of a digest matches an image."""
    names = list(names)
    if wanted in names or _normalized(wanted) in map(_normalized, names):
        return True
    digits = wanted.removeprefix("sha256:")
    return len(digits) >= _MIN_PREFIX and any(
        digest.removeprefix("sha256:").startswith(digits) for digest in digests
    )


def _normalized(name: str) -> str:
    """The full form of a name, as archives and stores have it."""
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
