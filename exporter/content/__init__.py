"""Blobs by digest on this machine: stores, verified copies, the graph of manifests, atomic files.

Stores behind a wire are in `exporter.remotes`. No gRPC and no HTTP; nothing here knows what a build is.
Whatever is copied or parsed is verified here, and nowhere else.
"""

from exporter.content.concurrency import gather, map_each
from exporter.content.copy import (
    PARSE_LIMIT,
    OnBytes,
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
from exporter.content.manifest import (
    children,
    decode_descriptor,
    gc_labels,
    is_parent,
    must_not_be_distributed,
)
from exporter.content.memory import MemoryStore
from exporter.content.overlay import MultiProvider
from exporter.content.programs import ProgramResult, find_program, run_program
from exporter.content.protocol import BlobInfo, BlobWriter, ContentStore, Provider
from exporter.content.spool import SpoolingProvider
from exporter.content.staging import StagedFile, Staging
from exporter.content.threads import StepTimer, iterate_in_thread, run_in_thread
from exporter.content.verify import Verifier, split_digest

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
    "OnBytes",
    "ProgramResult",
    "Provider",
    "SpoolingProvider",
    "StagedFile",
    "Staging",
    "StepTimer",
    "StoredImage",
    "Verifier",
    "children",
    "copy_blob",
    "copy_blobs",
    "copy_chain",
    "decode_descriptor",
    "default_root",
    "find_program",
    "gather",
    "gc_labels",
    "has_blob",
    "is_parent",
    "iterate_in_thread",
    "load_graph",
    "map_each",
    "must_not_be_distributed",
    "read_blob",
    "run_in_thread",
    "run_program",
    "split_digest",
    "write_blob",
]
