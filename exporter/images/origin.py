"""The build result behind an image, and the resources for changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from exporter.image import CompressionConfig, ImageError, diff_ids_of, parse_key
from exporter.image.keys import ATTESTATION_REASON, IMAGE_BASE_CONFIG
from exporter.layer.limits import MAX_CONTENT_BYTES
from exporter.source.types import Attestation, Source

_SBOM = b"sbom"
_SBOM_TYPES = ("https://spdx.dev/", "https://cyclonedx.org/")


@dataclass(frozen=True, slots=True)
class Workshop:
    """The resources for changes of images.

    Attributes:
        scratch: A directory for unpacked files and new layers. It must outlive the images.
        max_content_bytes: Maximum total size of an image's files when layers are unpacked.
        compression: The compression of new layers.
    """

    scratch: Path
    max_content_bytes: int = MAX_CONTENT_BYTES
    compression: CompressionConfig = field(default_factory=CompressionConfig)


@dataclass(frozen=True, slots=True)
class ImageOrigin:
    """The build result that an image was made from.

    Attributes:
        source: The build result.
        platform_id: The image's platform in it.
    """

    source: Source = field(default_factory=Source)
    platform_id: str = ""

    def base_layers(self, diff_ids: Sequence[str]) -> int:
        """The number of an image's layers that belong to the base image; 0 if unknown."""
        config = parse_key(self.source.metadata, IMAGE_BASE_CONFIG, self.platform_id)
        if not config:
            return 0
        try:
            base = diff_ids_of(config)
        except ImageError:
            return 0
        return len(base) if tuple(diff_ids[: len(base)]) == base else 0

    def attestations(self, *, same_files: bool) -> Sequence[Attestation]:
        """The attestations that still apply to an image.

        Provenance describes the build and is always kept. An SBOM describes the files and is dropped if they
        differ.
        """
        attestations = self.source.attestations.get(self.platform_id, ())
        return [item for item in attestations if same_files or not _is_sbom(item)]


def _is_sbom(attestation: Attestation) -> bool:
    reason = attestation.metadata.get(ATTESTATION_REASON)
    return reason == _SBOM or attestation.predicate_type.startswith(_SBOM_TYPES)
