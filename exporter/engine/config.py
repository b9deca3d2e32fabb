"""An operator's configuration of stores, registries and caches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.content.layout import default_root_path
from exporter.engine.hooks import Hooks
from exporter.exporters.image_types import stores_image
from exporter.layer.cache import DEFAULT_LIMIT
from exporter.layer.limits import MAX_CONTENT_BYTES

if TYPE_CHECKING:
    # The command line reads defaults from this module and should not import these clients for that.
    from exporter.remotes.containerd import ContainerdConfig
    from exporter.remotes.registry import RegistryOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkplaceConfig:
    """An operator's configuration.

    Attributes:
        root: The directory of the embedded image store, scratch space and the cache of converted layers.
            None for the user's default (`exporter.content.layout.default_root_path`). If that cannot be used,
            only exports that store images fail.
        containerd: The containerd that stores images instead of the embedded store, if any. Requests cannot
            choose.
        registries: How to access registries, with the current user's credentials, for the user's own exports;
            None for the defaults and the user's Docker configuration.
        layer_cache_bytes: Maximum size of the cache of converted layers; 0 for no cache.
        max_content_bytes: Maximum total size of a result's files, for types that unpack layers.
        hooks: The hooks that requests may choose with ``before-publish``.
    """

    root: Path | None = None
    containerd: ContainerdConfig | None = None
    registries: RegistryOptions | None = None
    layer_cache_bytes: int = DEFAULT_LIMIT
    max_content_bytes: int = MAX_CONTENT_BYTES
    hooks: Hooks = field(default_factory=Hooks)

    def place_of(self, exporter_type: str, attrs: Mapping[str, str]) -> str:
        """A description of the store that an export puts its image into; empty if it stores no image.

        Raises:
            AttributeValueError: an attribute is invalid.
        """
        if not stores_image(exporter_type, attrs):
            return ""
        if self.containerd is None or exporter_type == "moby":  # moby always uses the embedded store
            return f"the image store {self.root or default_root_path()}"
        return f"the containerd at {self.containerd.socket}, namespace {self.containerd.namespace}"
