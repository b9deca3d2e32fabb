"""containerd as a store of images, over its gRPC API: content, names, leases, snapshots."""

from exporter.content.containerd.client import Containerd
from exporter.content.containerd.config import ContainerdConfig
from exporter.content.containerd.store import ContainerdStore

__all__ = ["Containerd", "ContainerdConfig", "ContainerdStore"]
