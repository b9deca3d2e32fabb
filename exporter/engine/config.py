"""What an operator chooses for exports to work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.content.layout import default_root_path
from exporter.exporters.storing import stores_image
from exporter.layer.cache import DEFAULT_LIMIT
from exporter.layer.limits import MAX_CONTENT_BYTES

if TYPE_CHECKING:
    # The command line has its defaults from here and loads neither unless it needs it.
    from exporter.remotes.containerd import ContainerdConfig
    from exporter.remotes.registry import RegistryOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkplaceConfig:
    """An operator's choices about what exports work with.

    Attributes:
        root: Directory of the embedded image store, of scratch space and of the cache of converted layers.
            None for that of the user (`exporter.content.layout.default_root_path`), if it can be used:
            exports that store nothing do without it.
        containerd: Where images go in place of the embedded store, if anywhere. Requests cannot choose.
        registries: How registries are reached; None for the ways of the Docker configuration of the user who
            runs us.
        layer_cache_bytes: Largest size of the cache of converted layers; 0 for no cache.
        max_content_bytes: Largest sum of the sizes of a result's files, for types that unpack layers.
    """

    root: Path | None = None
    containerd: ContainerdConfig | None = None
    registries: RegistryOptions | None = None
    layer_cache_bytes: int = DEFAULT_LIMIT
    max_content_bytes: int = MAX_CONTENT_BYTES

    def place_of(self, exporter_type: str, attrs: Mapping[str, str]) -> str:
        """Where an export puts an image, for people to read; empty if it puts none into a store of ours.

        Raises:
            AttributeValueError: an attribute cannot be used.
        """
        if not stores_image(exporter_type, attrs):
            return ""
        if self.containerd is None or exporter_type == "moby":  # which knows but the embedded store
            return f"the image store {self.root or default_root_path()}"
        return f"the containerd at {self.containerd.socket}, namespace {self.containerd.namespace}"
