"""Image manifests, indices and attestation manifests, in BuildKit's bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from exporter.image import media_types
from exporter.image.config.patch import attestation_config
from exporter.image.descriptor import Descriptor, DescriptorObject
from exporter.image.digest import digest_bytes
from exporter.image.go import json as gojson
from exporter.image.keys import (
    ATTESTATION_REFERENCE,
    DIFF_ID,
    DISTRIBUTION_SOURCE_PREFIX,
    LAYER_CREATED_AT,
    PREDICATE_TYPE,
    REFERENCE_DIGEST,
    REFERENCE_TYPE,
)
from exporter.image.platforms.platform import Platform

UNKNOWN_PLATFORM = Platform(os="unknown", architecture="unknown")
"""The platform under which an index lists attestation manifests."""

# Annotations that BuildKit and containerd keep for themselves.
_INTERNAL_ANNOTATIONS = frozenset({DIFF_ID, LAYER_CREATED_AT})

_EMPTY_JSON = b"{}"


@dataclass(frozen=True, slots=True)
class AttestationManifest:
    """The manifest that carries the attestations of an image.

    Attributes:
        config: The config's bytes.
        manifest: The manifest's bytes.
        config_descriptor: The config's descriptor.
        layers: The statements' descriptors.
        descriptor: The manifest's descriptor, as an index lists it.
    """

    config: bytes
    manifest: bytes
    config_descriptor: Descriptor
    layers: tuple[Descriptor, ...]
    descriptor: Descriptor


def published_annotations(annotations: Mapping[str, str], *, oci: bool) -> dict[str, str]:
    """The layer annotations that a manifest publishes, without internal ones, in Go's order.

    Docker's format has no layer annotations at all.
    """
    if not oci or annotations.keys() <= _INTERNAL_ANNOTATIONS:
        return {}
    public = {
        key: value
        for key, value in annotations.items()
        if key not in _INTERNAL_ANNOTATIONS and not key.startswith(DISTRIBUTION_SOURCE_PREFIX)
    }
    return gojson.sort_keys(public)


def manifest_bytes(
    config: DescriptorObject,
    layers: Sequence[DescriptorObject],
    *,
    oci: bool = True,
    annotations: Mapping[str, str] | None = None,
    artifact_type: str = "",
    subject: DescriptorObject | None = None,
) -> bytes:
    """Write a manifest.

    Args:
        config: The config's descriptor.
        layers: The layers' descriptors, base first, with the annotations to publish.
        oci: Whether to write OCI's format instead of Docker's.
        annotations: The manifest's annotations.
        artifact_type: The artifact's type, if this is the manifest of an artifact.
        subject: The manifest that this one refers to.
    """
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST if oci else media_types.DOCKER_MANIFEST,
    }
    if artifact_type:
        manifest["artifactType"] = artifact_type
    manifest["config"] = config
    manifest["layers"] = layers or None
    if subject is not None:
        manifest["subject"] = subject
    if annotations:
        manifest["annotations"] = gojson.sort_keys(annotations)
    return gojson.marshal_indent(manifest)


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
        manifests: The manifests that it lists.
        media_type: `media_types.OCI_INDEX` or `media_types.DOCKER_MANIFEST_LIST`; if empty, the index has no
            ``mediaType``.
        annotations: The index's annotations.
        artifact_type: The artifact's type, if this is the index of an artifact.
        subject: The manifest that the index refers to.
        compact: Whether to write one line, as in an OCI layout's ``index.json``, instead of BuildKit's
            indented form.
    """
    index: dict[str, Any] = {"schemaVersion": 2}
    if media_type:
        index["mediaType"] = media_type
    if artifact_type:
        index["artifactType"] = artifact_type
    index["manifests"] = [manifest.to_object() for manifest in manifests] or None
    if subject is not None:
        index["subject"] = subject.to_object()
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
        target: The descriptor of the image's manifest.
        statements: In-toto statements in JSON, each with its predicate type.
        oci: Whether to write OCI's format instead of Docker's.
        artifact: Whether to write an OCI artifact whose subject is the image (``oci-artifact=true``),
            instead of the older form, which looks like an image.
    """
    layers = []
    for data, predicate_type in statements:
        digest = digest_bytes(data)
        annotations = {DIFF_ID: digest, PREDICATE_TYPE: predicate_type}
        layers.append(Descriptor(media_types.IN_TOTO, digest, len(data), annotations=annotations))
    if artifact:
        config = _EMPTY_JSON
        config_descriptor = Descriptor(media_types.OCI_EMPTY, digest_bytes(config), len(config), data=config)
    else:
        config = attestation_config([layer.digest for layer in layers])
        config_type = media_types.OCI_CONFIG if oci else media_types.DOCKER_CONFIG
        config_descriptor = Descriptor(config_type, digest_bytes(config), len(config))
    manifest = manifest_bytes(
        config_descriptor.to_object(),
        [
            replace(layer, annotations=published_annotations(layer.annotations, oci=oci)).to_object()
            for layer in layers
        ],
        oci=oci,
        artifact_type=media_types.ATTESTATION_MANIFEST if artifact else "",
        subject=DescriptorObject(target.media_type, target.digest, target.size) if artifact else None,
    )
    return AttestationManifest(
        config=config,
        manifest=manifest,
        config_descriptor=config_descriptor,
        layers=tuple(layers),
        descriptor=Descriptor(
            media_types.OCI_MANIFEST if oci else media_types.DOCKER_MANIFEST,
            digest_bytes(manifest),
            len(manifest),
            annotations={
                REFERENCE_TYPE: ATTESTATION_REFERENCE,
                REFERENCE_DIGEST: target.digest,
            },
            platform=UNKNOWN_PLATFORM,
        ),
    )
