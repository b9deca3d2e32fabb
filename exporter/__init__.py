"""BuildKit exporters outside the daemon.

This is the face of the SDK: what a new kind of output needs. A minimal one::

    from exporter import ArtifactKind, ExportContext, Exporter, ExportResult, Source

    class CountExporter(Exporter):
        type = "count"
        title = "Says how many layers there are"
        artifact = ArtifactKind.NONE

        @property
        def name(self) -> str:
            return "counting layers"

        async def export(self, source: Source, context: ExportContext) -> ExportResult:
            ref = source.ref
            layers = len((await ref.remote()).descriptors) if ref else 0
            return ExportResult(response={"layers": str(layers)})

The parts behind it: `exporter.image` computes images (bytes in, bytes out), `exporter.content` holds blobs,
`exporter.source` is what a daemon hands over, `exporter.exporters` has the built-in kinds of output.
"""

from __future__ import annotations

from exporter.content.protocol import BlobInfo, BlobWriter, ContentStore, Provider
from exporter.errors import (
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
    FileSink,
    Finalize,
    FinalizeContext,
    LayoutSink,
    NamedStore,
    Output,
    Pusher,
)
from exporter.exporters.files.entry import FileEntry
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
from exporter.layer.tree import Kind as FileKind
from exporter.progress.producer import Status, VertexProgress
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
    "BuildInfo",
    "CompressionConfig",
    "ContentStore",
    "DataLossError",
    "DeadlineError",
    "Descriptor",
    "ExportContext",
    "ExportResult",
    "Exporter",
    "ExporterError",
    "FailedPreconditionError",
    "FileEntry",
    "FileKind",
    "FileSink",
    "Finalize",
    "FinalizeContext",
    "ImageError",
    "InvalidArgumentError",
    "Layer",
    "LayerChain",
    "LayerChainError",
    "LayerMetadata",
    "LayoutSink",
    "NamedStore",
    "NotFoundError",
    "Output",
    "PermissionDeniedError",
    "Platform",
    "Provider",
    "Pusher",
    "Ref",
    "Registry",
    "Remote",
    "ResourceExhaustedError",
    "Source",
    "Status",
    "Subject",
    "SubjectKind",
    "Time",
    "UnavailableError",
    "VertexProgress",
    "default_registry",
]
