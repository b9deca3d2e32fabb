"""Content stores: blobs by digest, where they come from and where they go.

The stores that speak to a containerd, a registry or a session are in modules of their own, since they need
gRPC or HTTP.
"""

from exporter.content.copy import (
    PARSE_LIMIT,
    copy_blob,
    copy_blobs,
    copy_chain,
    has_blob,
    load_graph,
    read_blob,
    write_blob,
)
from exporter.content.files import BlobDirectory, FileProvider
from exporter.content.images import ImageStore, StoredImage
from exporter.content.layout import OCILayout, default_root
from exporter.content.manifest import children, gc_labels, is_parent, must_not_be_distributed
from exporter.content.memory import MemoryStore
from exporter.content.overlay import MultiProvider
from exporter.content.protocol import BlobInfo, BlobWriter, ContentStore, Provider

__all__ = [
    "PARSE_LIMIT",
    "BlobDirectory",
    "BlobInfo",
    "BlobWriter",
    "ContentStore",
    "FileProvider",
    "ImageStore",
    "MemoryStore",
    "MultiProvider",
    "OCILayout",
    "Provider",
    "StoredImage",
    "children",
    "copy_blob",
    "copy_blobs",
    "copy_chain",
    "default_root",
    "gc_labels",
    "has_blob",
    "is_parent",
    "load_graph",
    "must_not_be_distributed",
    "read_blob",
    "write_blob",
]
