"""The platforms of a build result, from ``refs.platforms`` or else from the image config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from exporter.errors import ImageError
from exporter.image.config.go_types import IMAGE
from exporter.image.go import json as gojson
from exporter.image.keys import IMAGE_CONFIG, PLATFORMS, MetadataValueError
from exporter.image.platforms.platform import PLATFORM_TYPE, Platform, host_platform

_PLATFORMS: Final = gojson.Struct(
    "exptypes.Platforms",
    {
        "Platforms": gojson.Slice(
            gojson.Struct("exptypes.Platform", {"ID": gojson.String(), "Platform": PLATFORM_TYPE})
        )
    },
)


@dataclass(frozen=True, slots=True)
class ResultPlatform:
    """A platform of a build result.

    Attributes:
        id: Its key in ``refs``, in attestations and in metadata, as the frontend spelled it.
        platform: The platform, normalised.
    """

    id: str
    platform: Platform


def parse_platforms(
    metadata: Mapping[str, bytes], *, host: Platform | None = None
) -> tuple[ResultPlatform, ...]:
    """The platforms of a build result; at least one.

    Without ``refs.platforms`` it is the platform of the image config, or else the host's. A config that
    names neither operating system nor architecture gets only the host's operating system, so that its
    platform ID is ``linux``.

    Args:
        metadata: The build result's metadata.
        host: The platform for what is missing; that of the running machine if None.

    Raises:
        MetadataValueError: a value is invalid; with BuildKit's text.
    """
    host = host or host_platform()
    if PLATFORMS in metadata:
        try:
            return _listed(metadata[PLATFORMS], host)
        except ImageError as error:
            raise MetadataValueError(PLATFORMS, str(error)) from error
    platform = host
    if IMAGE_CONFIG in metadata:
        try:
            platform = _of_config(metadata[IMAGE_CONFIG])
        except ImageError as error:
            raise MetadataValueError(IMAGE_CONFIG, str(error)) from error
    platform = platform.normalized(host=host)
    return (ResultPlatform(platform.format_all(), platform),)


def _listed(value: bytes, host: Platform) -> tuple[ResultPlatform, ...]:
    entries: list[dict[str, Any]] | None = None
    if value:
        try:
            entries = gojson.decode(value, _PLATFORMS, "Platforms")["Platforms"]
        except ImageError as error:
            # BuildKit's text. It mentions provenance although every exporter reads the platforms this way.
            raise ImageError(f"failed to parse platforms passed to provenance processor: {error}") from error
    if not entries:
        raise ImageError("invalid empty platforms index for exporter")
    return tuple(_entry(entry["ID"], Platform.from_dict(entry["Platform"]), host) for entry in entries)


def _entry(platform_id: str, platform: Platform, host: Platform) -> ResultPlatform:
    if not platform_id:
        raise ImageError("invalid empty platform key for exporter")
    if not platform.os or not platform.architecture:
        features = " ".join(platform.os_features)
        shown = f"{platform.architecture} {platform.os} {platform.os_version} [{features}] {platform.variant}"
        raise ImageError(f"invalid platform value {{{shown}}} for exporter")
    return ResultPlatform(platform_id, platform.normalized(host=host))


def _of_config(value: bytes) -> Platform:
    config = gojson.decode(value, IMAGE, "Image")
    platform = Platform.from_dict(config)
    if platform.os and platform.architecture:
        return platform
    if platform.os or platform.architecture:
        raise ImageError("invalid image config: os and architecture must be specified together")
    return Platform()
