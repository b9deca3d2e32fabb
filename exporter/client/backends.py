"""Backends for `exporter.client.OurExport`, which run our exports in a build.

::

    async with LocalBackend.open(WorkplaceConfig(), default_registry()) as backend:
        options = SolveOptions(..., exports=[OurExport("my-type", {}, backend)])
"""

from exporter.engine.config import WorkplaceConfig
from exporter.takeover.backend import Backend, Destination, Exported, RegistryAccess, Resolved
from exporter.takeover.local import LocalBackend
from exporter.takeover.plugin_server import PluginBackend

__all__ = [
    "Backend",
    "Destination",
    "Exported",
    "LocalBackend",
    "PluginBackend",
    "RegistryAccess",
    "Resolved",
    "WorkplaceConfig",
]
