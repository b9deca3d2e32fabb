"""The pure core: what BuildKit's and moby's image exporters compute, as functions from bytes to bytes.

No I/O, no asyncio, no gRPC, and nothing imported from the rest of the package but errors.
Bytes are Go's: a rule that is not in a vector or a recorded build does not belong here.
"""

from __future__ import annotations

from exporter.errors import ImageError, LayerChainError
from exporter.image.annotations import AnnotationGroups, AnnotationKey, Annotations, AnnotationType
from exporter.image.config.patch import attestation_config
from exporter.image.descriptor import Descriptor, DescriptorObject
from exporter.image.digest import digest_bytes, parse_digest
from exporter.image.epoch import Epoch, epoch_from_build_args, epoch_source, export_epoch
from exporter.image.go.time import Time
from exporter.image.history import History, LayerMetadata
from exporter.image.image import (
    BuildkitImage,
    buildkit_image,
    diff_ids_of,
    fitted_history,
    moby_config,
    parse_history,
)
from exporter.image.keys import MetadataValueError, parse_key, platform_key
from exporter.image.manifest import AttestationManifest, attestation_manifest, index_bytes
from exporter.image.names import (
    FROM_FRONTEND,
    ImageNames,
    normalized_names,
    parse_names,
    resolve_image_name,
    sanitize_repo_and_tags,
)
from exporter.image.options.attributes import AttributeValueError
from exporter.image.options.commit import CommitOptions
from exporter.image.options.compatibility import check_compatibility_version
from exporter.image.options.compression import CompressionConfig, CompressionType
from exporter.image.options.exporters import ArchiveExporterOptions, ImageExporterOptions, MobyExporterOptions
from exporter.image.options.files import FSOptions, LocalExporterMode
from exporter.image.platforms.match import PlatformMatcher
from exporter.image.platforms.platform import Platform, host_platform
from exporter.image.platforms.result import ResultPlatform, parse_platforms
from exporter.image.reference import Reference

__all__ = [
    "FROM_FRONTEND",
    "AnnotationGroups",
    "AnnotationKey",
    "AnnotationType",
    "Annotations",
    "ArchiveExporterOptions",
    "AttestationManifest",
    "AttributeValueError",
    "BuildkitImage",
    "CommitOptions",
    "CompressionConfig",
    "CompressionType",
    "Descriptor",
    "DescriptorObject",
    "Epoch",
    "FSOptions",
    "History",
    "ImageError",
    "ImageExporterOptions",
    "ImageNames",
    "LayerChainError",
    "LayerMetadata",
    "LocalExporterMode",
    "MetadataValueError",
    "MobyExporterOptions",
    "Platform",
    "PlatformMatcher",
    "Reference",
    "ResultPlatform",
    "Time",
    "attestation_config",
    "attestation_manifest",
    "buildkit_image",
    "check_compatibility_version",
    "diff_ids_of",
    "digest_bytes",
    "epoch_from_build_args",
    "epoch_source",
    "export_epoch",
    "fitted_history",
    "host_platform",
    "index_bytes",
    "moby_config",
    "normalized_names",
    "parse_digest",
    "parse_history",
    "parse_key",
    "parse_names",
    "parse_platforms",
    "platform_key",
    "resolve_image_name",
    "sanitize_repo_and_tags",
]
