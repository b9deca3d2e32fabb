"""Image manifests, indices and attestation manifests, in BuildKit's bytes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.image import gojson, media_types
from exporter.image.config import attestation_config
from exporter.image.descriptor import Descriptor, DescriptorObject
from exporter.image.digest import digest_bytes
from exporter.image.platforms import Platform

DIFF_ID_ANNOTATION = "containerd.io/uncompressed"
"""Where BuildKit keeps the digest of a layer's uncompressed bytes."""

PREDICATE_TYPE_ANNOTATION = "in-toto.io/predicate-type"
REFERENCE_TYPE_ANNOTATION = "vnd.docker.reference.type"
REFERENCE_DIGEST_ANNOTATION = "vnd.docker.reference.digest"
ATTESTATION_REFERENCE_TYPE = "attestation-manifest"

UNKNOWN_PLATFORM = Platform(os="unknown", architecture="unknown")
"""The platform under which an index lists attestation manifests."""

# Annotations that BuildKit and containerd keep for themselves.
_INTERNAL_ANNOTATIONS = frozenset({DIFF_ID_ANNOTATION, "buildkit/createdat"})
_INTERNAL_ANNOTATION_PREFIX = "containerd.io/distribution.source."

_EMPTY_JSON = b"{}"


@dataclass(frozen=True, slots=True)
class AttestationManifest:
    """What holds the attestations of an image.

    Attributes:
        config: The config's bytes.
        manifest: The manifest's bytes.
        config_descriptor: Of the config.
        layers: Of the statements.
        descriptor: Of the manifest, as an index lists it.
    """

    config: bytes
    manifest: bytes
    config_descriptor: Descriptor
    layers: tuple[Descriptor, ...]
    descriptor: Descriptor


def manifest_bytes(
    config: Descriptor,
    layers: Sequence[DescriptorObject],
    *,
    oci: bool = True,
    annotations: Mapping[str, str] | None = None,
    artifact_type: str = "",
    subject: Descriptor | None = None,
) -> bytes:
    """Write a manifest, without the annotations of layers that are of no concern to others.

    Docker's format knows no annotations of layers at all, so that they go there; its manifests keep theirs.

    Args:
        config: Of the config.
        layers: Base first.
        oci: Whether to write OCI's format, or Docker's.
        annotations: Of the manifest.
        artifact_type: Of the manifest, if it is one of an artifact.
        subject: The manifest that this one is about.
    """
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST if oci else media_types.DOCKER_MANIFEST,
    }
    if artifact_type:
        manifest["artifactType"] = artifact_type
    manifest["config"] = config.to_dict()
    manifest["layers"] = [_published(layer, oci=oci) for layer in layers] or None
    if subject is not None:
        manifest["subject"] = subject.to_dict()
    if annotations:
        manifest["annotations"] = gojson.sort_keys(annotations)
    return gojson.marshal_indent(manifest)


def _published(layer: DescriptorObject, *, oci: bool) -> DescriptorObject:
    layer = copy.copy(layer)
    layer.annotations = dict(
        sorted(
            (key, value)
            for key, value in layer.annotations.items()
            if oci and key not in _INTERNAL_ANNOTATIONS and not key.startswith(_INTERNAL_ANNOTATION_PREFIX)
        )
    )
    return layer


def index_bytes(
    manifests: Sequence[Descriptor],
    *,
    media_type: str = media_types.OCI_INDEX,
    annotations: Mapping[str, str] | None = None,
    artifact_type: str = "",
    subject: Descriptor | None = None,
    compact: bool = False,
) -> bytes:
    """Write an image index or a manifest list.

    Args:
        manifests: What it lists.
        media_type: `media_types.OCI_INDEX` or `media_types.DOCKER_MANIFEST_LIST`; the member is left out if
            empty.
        annotations: Of the index.
        artifact_type: Of the index, if it is one of an artifact.
        subject: The manifest that the index is about.
        compact: Whether to write one line, as in ``index.json`` of an OCI layout, or BuildKit's indented
            form.
    """
    index: dict[str, Any] = {"schemaVersion": 2}
    if media_type:
        index["mediaType"] = media_type
    if artifact_type:
        index["artifactType"] = artifact_type
    index["manifests"] = [manifest.to_dict() for manifest in manifests] or None
    if subject is not None:
        index["subject"] = subject.to_dict()
    if annotations:
        index["annotations"] = gojson.sort_keys(annotations)
    return gojson.marshal(index) if compact else gojson.marshal_indent(index)


def attestation_manifest(
    target: Descriptor,
    statements: Sequence[tuple[bytes, str]],
    *,
    oci: bool = True,
    artifact: bool = False,
) -> AttestationManifest:
    """Make the manifest of an image's attestations.

    Args:
        target: The image's manifest.
        statements: In-toto statements in JSON, each with its predicate type.
        oci: Whether to write OCI's format, or Docker's.
        artifact: Whether to write it as an OCI artifact whose subject is the image (``oci-artifact=true``),
            or in the
            older form, as an image of its own.
    """
    layers = []
    for data, predicate_type in statements:
        digest = digest_bytes(data)
        annotations = {DIFF_ID_ANNOTATION: digest, PREDICATE_TYPE_ANNOTATION: predicate_type}
        layers.append(
            DescriptorObject(media_types.IN_TOTO, digest, len(data), annotations=annotations),
        )
    if artifact:
        config = _EMPTY_JSON
        config_descriptor = Descriptor(media_types.OCI_EMPTY, digest_bytes(config), len(config), data=config)
    else:
        config = attestation_config([layer.digest for layer in layers])
        config_type = media_types.OCI_CONFIG if oci else media_types.DOCKER_CONFIG
        config_descriptor = Descriptor(config_type, digest_bytes(config), len(config))
    manifest = manifest_bytes(
        config_descriptor,
        layers,
        oci=oci,
        artifact_type=media_types.ATTESTATION_MANIFEST if artifact else "",
        subject=Descriptor(target.media_type, target.digest, target.size) if artifact else None,
    )
    return AttestationManifest(
        config=config,
        manifest=manifest,
        config_descriptor=config_descriptor,
        layers=tuple(
            Descriptor(layer.media_type, layer.digest, layer.size, annotations=layer.annotations)
            for layer in layers
        ),
        descriptor=Descriptor(
            media_types.OCI_MANIFEST if oci else media_types.DOCKER_MANIFEST,
            digest_bytes(manifest),
            len(manifest),
            annotations={
                REFERENCE_TYPE_ANNOTATION: ATTESTATION_REFERENCE_TYPE,
                REFERENCE_DIGEST_ANNOTATION: target.digest,
            },
            platform=UNKNOWN_PLATFORM,
        ),
    )
