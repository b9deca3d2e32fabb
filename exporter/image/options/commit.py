"""The options that all image exporters share: BuildKit's ``ImageCommitOpts``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from exporter.image.annotations import AnnotationGroups
from exporter.image.epoch import Epoch, take_epoch
from exporter.image.options import attributes as keys
from exporter.image.options.attributes import AttributeValueError, parse_bool_attribute
from exporter.image.options.compatibility import CURRENT, V0_13, V0_31
from exporter.image.options.compression import CompressionConfig, CompressionType

_BOOL_FIELDS: Final = MappingProxyType(
    {
        keys.OCI_MEDIATYPES: "oci_types",
        keys.OCI_ARTIFACT: "oci_artifact",
        keys.ATTESTATION_INLINE: "force_inline_attestations",
        keys.PREFER_NONDIST_LAYERS: "prefer_nondist_layers",
        keys.REWRITE_TIMESTAMP: "rewrite_timestamp",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitOptions:
    """How to write an image.

    Attributes:
        image_name: The names, separated by commas; ``*`` for those that the frontend set.
        compression: How to compress layers.
        prefer_nondist_layers: Whether non-distributable layers stay non-distributable.
        oci_types: OCI media types instead of Docker's; None until the default is known.
        oci_artifact: Attestation manifests as OCI artifacts; None until the default is known.
        annotations: The annotations requested by attributes.
        epoch: The epoch requested by attribute; None leaves it to the frontend.
        force_inline_attestations: Whether to attach inline-only attestations.
        rewrite_timestamp: Whether to clamp the timestamps of files in layers to the epoch.
    """

    image_name: str = ""
    compression: CompressionConfig = field(default_factory=CompressionConfig)
    prefer_nondist_layers: bool = False
    oci_types: bool | None = None
    oci_artifact: bool | None = None
    annotations: AnnotationGroups = field(default_factory=AnnotationGroups)
    epoch: Epoch | None = None
    force_inline_attestations: bool = False
    rewrite_timestamp: bool = False

    @classmethod
    def load(
        cls, attrs: Mapping[str, str], *, force_inline_attestations: bool = False
    ) -> tuple[CommitOptions, dict[str, str]]:
        """Read the attributes of an exporter.

        Args:
            attrs: All attributes.
            force_inline_attestations: The default of ``attestation-inline``: true for images in a store,
                false for archives.

        Returns:
            The options and the unused attributes. As in BuildKit, the latter include those about compression.

        Raises:
            AttributeValueError: a value is invalid, or two conflict; with BuildKit's text. Checked in this
                order: annotations, epoch, compression, the others, conflicts.
        """
        annotations, attrs = AnnotationGroups.from_attributes(attrs)
        epoch, attrs = take_epoch(attrs)
        compression = CompressionConfig.load(attrs)
        rest: dict[str, str] = {}
        flags: dict[str, bool] = {"force_inline_attestations": force_inline_attestations}
        for key, value in sorted(attrs.items()):
            if key in _BOOL_FIELDS:
                flags[_BOOL_FIELDS[key]] = parse_bool_attribute(key, value)
            elif key != keys.NAME:
                rest[key] = value
        options = cls(
            image_name=attrs.get(keys.NAME, ""),
            compression=compression,
            annotations=annotations,
            epoch=epoch,
            **flags,
        )
        options.check()
        return options, rest

    @property
    def oci_types_enabled(self) -> bool:
        """Whether the image is to have OCI media types."""
        return bool(self.oci_types)

    @property
    def oci_artifact_enabled(self) -> bool:
        """Whether attestation manifests are to be OCI artifacts."""
        return bool(self.oci_artifact)

    def check(self) -> None:
        """Check that the options fit the media types, if these are known.

        Raises:
            AttributeValueError: an option needs OCI media types; with BuildKit's text.
        """
        if self.oci_types is None or self.oci_types:
            return
        if self.compression.type.only_supports_oci_types:
            raise _conflict(keys.COMPRESSION, self.compression.type)
        if self.oci_artifact_enabled:
            raise _conflict(keys.OCI_ARTIFACT, "true")

    def for_export(
        self,
        metadata: Mapping[str, bytes],
        *,
        has_attestations: bool,
        compatibility_version: int = 0,
        oci_types_default: bool | None = None,
    ) -> CommitOptions:
        """Fill in what depends on the build result.

        Annotations in the metadata override those of the attributes. Unless an attribute decides it, media
        types are OCI's from compatibility version 30 on; before, only if there are attestations. With OCI
        media types, attestation manifests are OCI artifacts from version 30 on.

        Args:
            metadata: The build result's metadata.
            has_attestations: Whether the result has any.
            compatibility_version: The build's compatibility version; 0 means the newest.
            oci_types_default: True for the ``oci`` exporter, which uses OCI media types in every version.

        Raises:
            MetadataValueError: an annotation in the metadata is invalid.
            AttributeValueError: the options conflict with each other.
        """
        version = compatibility_version or CURRENT
        if oci_types_default is None:
            oci_types_default = version >= V0_31 or has_attestations
        oci_types = oci_types_default if self.oci_types is None else self.oci_types
        oci_artifact = (version >= V0_31 and oci_types) if self.oci_artifact is None else self.oci_artifact
        annotations = self.annotations.merge(AnnotationGroups.from_metadata(metadata))
        options = replace(self, oci_types=oci_types, oci_artifact=oci_artifact, annotations=annotations)
        options.check()
        return options

    def check_compatibility(self, compatibility_version: int, exporter_type: str) -> None:
        """Check that the compatibility version supports the options.

        Args:
            compatibility_version: The build's compatibility version; 0 means the newest.
            exporter_type: For the message, such as ``oci``.

        Raises:
            AttributeValueError: it does not; with BuildKit's text.
        """
        if compatibility_version == V0_13 and self.compression.type is CompressionType.ZSTD:
            feature = f"{exporter_type} exporter compression={self.compression.type}"
            text = f"unsupported compatibility-version {compatibility_version} feature {feature}"
            raise AttributeValueError(keys.COMPRESSION, text)


def _conflict(attribute: str, value: str) -> AttributeValueError:
    text = f'exporter option "{attribute}={value}" conflicts with "{keys.OCI_MEDIATYPES}=false"'
    return AttributeValueError(attribute, text)
