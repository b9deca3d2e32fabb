"""What an operator chooses for exports to work with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.layer.cache import DEFAULT_LIMIT

if TYPE_CHECKING:
    # The command line has its defaults from here and loads neither unless it needs it.
    from exporter.remotes.containerd import ContainerdConfig
    from exporter.remotes.registry import RegistryOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkplaceConfig:
    """An operator's choices about what exports work with.

    Attributes:
        root: Directory of the embedded image store, of scratch space and of the cache of converted layers.
        containerd: Where images go in place of the embedded store, if anywhere. Requests cannot choose.
        registries: How registries are reached; None for the ways of the Docker configuration of the user who
            runs us.
        layer_cache_bytes: Largest size of the cache of converted layers; 0 for no cache.
    """

    root: Path
    containerd: ContainerdConfig | None = None
    registries: RegistryOptions | None = None
    layer_cache_bytes: int = DEFAULT_LIMIT
