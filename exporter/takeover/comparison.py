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
from exporter.takeover.daemon_image import DaemonImage, PlatformImage
from exporter.takeover.live_source import LiveSource


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
    for platform, part in zip(parse_platforms(live.source.metadata), image.platforms, strict=True):
        config = await _config(live, platform, part, epoch)
        if config != part.config:
            ours, daemon = digest_bytes(config), digest_bytes(part.config)
            differences.append(ConfigDifference(platform.id, ours, daemon))
    return differences


async def _config(
    live: LiveSource, platform: ResultPlatform, part: PlatformImage, epoch: Epoch | None
) -> bytes:
    metadata = live.source.metadata
    ref, _ = live.source.find_ref(platform.id)
    chain = None if ref is None else [layer.metadata() for layer in await ref.layer_chain()]
    image = buildkit_image(
        parse_key(metadata, IMAGE_CONFIG, platform.id) or b"",
        [layer.to_dict() for layer in part.layers],
        chain,
        epoch=export_epoch(epoch, metadata, platform.id),
        base_config=parse_key(metadata, IMAGE_BASE_CONFIG, platform.id),
        inline_cache=part.inline_cache,
    )
    return image.config
