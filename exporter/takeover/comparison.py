"""Comparing what we compute from a build result with the daemon's image of it."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.image import (
    Epoch,
    ResultPlatform,
    buildkit_image,
    digest_bytes,
    export_epoch,
    parse_key,
    parse_platforms,
)
from exporter.image.keys import IMAGE_BASE_CONFIG, IMAGE_CONFIG
from exporter.source.types import LayerChain
from exporter.takeover.daemon_image import DaemonImage, PlatformImage
from exporter.takeover.live_source import Doubt, LiveSource


@dataclass(frozen=True, slots=True)
class ConfigDifference:
    """Two configs of a platform that should be identical.

    Attributes:
        platform_id: The platform.
        ours: The digest of our config.
        daemon: The digest of the daemon's config.
    """

    platform_id: str
    ours: str
    daemon: str

    def __str__(self) -> str:
        return f"{self.platform_id}: computed {self.ours}, but buildkitd has {self.daemon}"


async def compare_configs(
    live: LiveSource, image: DaemonImage, epoch: Epoch | None
) -> list[ConfigDifference]:
    """Compute the configs of all platforms and compare them with the daemon's.

    Args:
        live: The build result.
        image: The daemon's image of it.
        epoch: The epoch in the attributes of the daemon's exporter.

    Raises:
        ImageError: a config cannot be computed.
    """
    differences = []
    for platform, part, chain in await _platforms(live, image):
        config = _config(live, platform, part, chain, epoch)
        if config != part.config:
            ours, daemon = digest_bytes(config), digest_bytes(part.config)
            differences.append(ConfigDifference(platform.id, ours, daemon))
    return differences


async def doubts_that_matter(live: LiveSource, image: DaemonImage, epoch: Epoch | None) -> list[Doubt]:
    """The ambiguities that affect the image's bytes: another chain would result in another config.

    Others are harmless, such as several records for the same pulled base image.

    Args:
        live: The build result.
        image: The daemon's image of it.
        epoch: The epoch in the attributes of the daemon's exporter.

    Raises:
        ImageError: a config cannot be computed.
    """
    found = []
    parts = {platform.id: (platform, part, chain) for platform, part, chain in await _platforms(live, image)}
    for doubt in live.doubts:
        platform, part, chain = parts[doubt.platform_id]
        config = _config(live, platform, part, chain, epoch)
        if any(_config(live, platform, part, rival, epoch) != config for rival in doubt.rivals):
            found.append(doubt)
    return found


async def _platforms(
    live: LiveSource, image: DaemonImage
) -> list[tuple[ResultPlatform, PlatformImage, LayerChain | None]]:
    parts = []
    for platform, part in zip(parse_platforms(live.source.metadata), image.platforms, strict=True):
        ref, _ = live.source.find_ref(platform.id)
        parts.append((platform, part, None if ref is None else await ref.layer_chain()))
    return parts


def _config(
    live: LiveSource,
    platform: ResultPlatform,
    part: PlatformImage,
    chain: LayerChain | None,
    epoch: Epoch | None,
) -> bytes:
    metadata = live.source.metadata
    image = buildkit_image(
        parse_key(metadata, IMAGE_CONFIG, platform.id) or b"",
        [layer.to_dict() for layer in part.layers],
        None if chain is None else [layer.metadata() for layer in chain],
        epoch=export_epoch(epoch, metadata, platform.id),
        base_config=parse_key(metadata, IMAGE_BASE_CONFIG, platform.id),
        inline_cache=part.inline_cache,
    )
    return image.config
