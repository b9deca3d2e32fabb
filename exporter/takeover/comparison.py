"""Holding what we compute from a build result against what the daemon has made of it."""

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
    """Two configs of one platform that should be the same.

    Attributes:
        platform_id: The platform.
        ours: Digest of the config that we compute.
        daemon: Digest of the daemon's.
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
        image: What the daemon has made of it.
        epoch: What the daemon's exporter was told by attribute.

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
    """The doubts about a build result that are about its bytes: another chain would give another config.

    The rest is about which of several records a daemon has pulled the same base image into, or the like.

    Args:
        live: The build result.
        image: What the daemon has made of it.
        epoch: What the daemon's exporter was told by attribute.

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
