"""The public names of the package `exporter`, which imports them lazily."""

from __future__ import annotations

from exporter.content.copy import copy_blobs, copy_chain, read_blob, write_blob
from exporter.content.images import ImageStore, StoredImage
from exporter.content.protocol import BlobInfo, BlobWriter, ContentStore, Provider
from exporter.errors import (
    Code,
    DataLossError,
    DeadlineError,
    ExporterError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
)
from exporter.exporters.base import (
    ArtifactKind,
    Attribute,
    ExportContext,
    Exporter,
    ExportResult,
    Finalize,
    FinalizeContext,
    Uses,
)
from exporter.exporters.blocking import BlockingContext, BlockingExporter
from exporter.exporters.destinations import (
    FileSink,
    LayoutSink,
    NamedStore,
    Output,
    PublishHook,
    Puller,
    Pusher,
    UnpackingStore,
)
from exporter.exporters.options import option
from exporter.exporters.plugins import PluginError
from exporter.exporters.registry import ENTRY_POINT_GROUP, Registry, default_registry
from exporter.image import (
    CompressionConfig,
    Descriptor,
    ImageError,
    LayerChainError,
    LayerMetadata,
    Platform,
    Time,
)
from exporter.images.image import Image
from exporter.images.index import ImageIndex
from exporter.images.layer import ImageLayer
from exporter.layer.cache import LayerCache
from exporter.layer.entry import BytesContent, FileEntry
from exporter.layer.entry import Content as FileContent
from exporter.layer.tree import Kind as FileKind
from exporter.progress.model import (
    ProgressGroup,
    SourceLines,
    StatusSink,
    StatusUpdate,
    Vertex,
    VertexLog,
    VertexStatus,
    VertexWarning,
)
from exporter.progress.producer import Status, VertexProgress
from exporter.remotes.registry import DistributionSources
from exporter.source.files import FilesRef, RefTree
from exporter.source.saved.load import SavedSource
from exporter.source.saved.save import save_source
from exporter.source.types import (
    Attestation,
    AttestationKind,
    BuildInfo,
    Layer,
    LayerChain,
    Ref,
    Remote,
    Source,
    Subject,
    SubjectKind,
)

__all__ = [
    "ENTRY_POINT_GROUP",
    "ArtifactKind",
    "Attestation",
    "AttestationKind",
    "Attribute",
    "BlobInfo",
    "BlobWriter",
    "BlockingContext",
    "BlockingExporter",
    "BuildInfo",
    "BytesContent",
    "Code",
    "CompressionConfig",
    "ContentStore",
    "DataLossError",
    "DeadlineError",
    "Descriptor",
    "DistributionSources",
    "ExportContext",
    "ExportResult",
    "Exporter",
    "ExporterError",
    "FailedPreconditionError",
    "FileContent",
    "FileEntry",
    "FileKind",
    "FileSink",
    "FilesRef",
    "Finalize",
    "FinalizeContext",
    "Image",
    "ImageError",
    "ImageIndex",
    "ImageLayer",
    "ImageStore",
    "InvalidArgumentError",
    "Layer",
    "LayerCache",
    "LayerChain",
    "LayerChainError",
    "LayerMetadata",
    "LayoutSink",
    "NamedStore",
    "NotFoundError",
    "Output",
    "PermissionDeniedError",
    "Platform",
    "PluginError",
    "ProgressGroup",
    "Provider",
    "PublishHook",
    "Puller",
    "Pusher",
    "Ref",
    "RefTree",
    "Registry",
    "Remote",
    "ResourceExhaustedError",
    "SavedSource",
    "Source",
    "SourceLines",
    "Status",
    "StatusSink",
    "StatusUpdate",
    "StoredImage",
    "Subject",
    "SubjectKind",
    "Time",
    "UnavailableError",
    "UnpackingStore",
    "Uses",
    "Vertex",
    "VertexLog",
    "VertexProgress",
    "VertexStatus",
    "VertexWarning",
    "copy_blobs",
    "copy_chain",
    "default_registry",
    "option",
    "read_blob",
    "save_source",
    "write_blob",
]
