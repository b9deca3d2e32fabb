"""containerd as a store of images, over its gRPC API: content, names, leases, snapshots."""

from exporter.remotes.containerd.client import Containerd
from exporter.remotes.containerd.config import ContainerdConfig
from exporter.remotes.containerd.store import ContainerdStore

__all__ = ["Containerd", "ContainerdConfig", "ContainerdStore"]
