"""The keys by which BuildKit's parts tell each other things: metadata, responses, annotations. Each once.

The frontend's metadata maps keys to bytes. A key can stand for all platforms or, with ``/<platform ID>``
behind it, for one. An exporter's response maps keys to strings, and so do the annotations of a descriptor.
Keys and meanings are those of BuildKit, containerd, Docker and the OCI.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from opencontainers.image.v1 import annotations as _oci

from exporter.errors import ImageError

# The metadata of a build result.

IMAGE_CONFIG: Final = "containerimage.config"
"""The image config, JSON; by platform."""
IMAGE_BASE_CONFIG: Final = "containerimage.base.config"
"""The config of the base image, JSON; by platform. Its history is not clamped to the epoch."""
IMAGE_NAME: Final = "image.name"
"""Metadata: names for an exporter whose ``name`` is ``*``. Response: the image's names, comma-separated."""
PLATFORMS: Final = "refs.platforms"
"""The platforms of a keyed result, JSON; see `exporter.image.platforms.result`."""
EPOCH: Final = "source.date.epoch"
"""Seconds since 1970 that timestamps are clamped to; by platform."""

ATTESTATION_REASON: Final = "reason"
"""In an attestation's own metadata: why it was made, ``sbom`` or ``provenance``."""
ATTESTATION_SBOM_CORE: Final = "sbom-core"
"""In an attestation's own metadata: base name of the SBOM about the image itself, not its build stages."""
ATTESTATION_INLINE_ONLY: Final = "inline-only"
"""In an attestation's own metadata: ``true`` if only images carry it, not directories and archives."""

# The response of an exporter.

RESPONSE_PREFIX: Final = "containerimage."
"""What BuildKit's keys about an image begin with."""
IMAGE_DIGEST: Final = "containerimage.digest"
"""Digest of the image's root, a manifest or an index (moby: the image ID)."""
IMAGE_CONFIG_DIGEST: Final = "containerimage.config.digest"
"""Digest of the config; only if the root is a manifest."""
IMAGE_DESCRIPTOR: Final = "containerimage.descriptor"
"""The root's descriptor, base64 of its JSON."""
CACHE_MANIFEST: Final = "cache.manifest"
"""From a daemon: the descriptor of an exported cache, JSON."""
FRONTEND_PREFIX: Final = "frontend."
"""What the keys begin with that a frontend gives to the client, through its result's metadata."""
ENGINE_IMAGE_ID: Final = "docker.image.id"
"""Ours: IDs that a Docker engine gave the images that it loaded, separated by commas."""
ENGINE_IMAGE_NAME: Final = "docker.image.name"
"""Ours: the names that a Docker engine gave them, separated by commas."""

# Annotations of descriptors, and labels of blobs.

DIFF_ID: Final = "containerd.io/uncompressed"
"""The digest of a layer's uncompressed bytes; not written to manifests."""
DISTRIBUTION_SOURCE_PREFIX: Final = "containerd.io/distribution.source."
"""With a registry's host behind it: the repositories there that have the blob; not written to manifests."""
LAYER_CREATED_AT: Final = "buildkit/createdat"
"""When a layer was made; not written to manifests."""
REWRITTEN_TIMESTAMP: Final = "buildkit/rewritten-timestamp"
"""The epoch that a layer's timestamps have been clamped to."""
PREDICATE_TYPE: Final = "in-toto.io/predicate-type"
"""The type of the predicate in an attestation's blob."""
REFERENCE_TYPE: Final = "vnd.docker.reference.type"
"""What a manifest in an index is if it is not an image, such as `ATTESTATION_REFERENCE`."""
ATTESTATION_REFERENCE: Final = "attestation-manifest"
"""The value of `REFERENCE_TYPE` for attestations."""
REFERENCE_DIGEST: Final = "vnd.docker.reference.digest"
"""The digest of the manifest that an attestation manifest is about."""
CREATED: Final[str] = _oci.AnnotationCreated
"""When an image was made."""
REF_NAME: Final[str] = _oci.AnnotationRefName
"""In an OCI layout's index: the name within the layout, by custom just the tag."""
CONTAINERD_NAME: Final = "io.containerd.image.name"
"""In an OCI layout's index: the image's whole name."""
STARGZ_TOC_DIGEST: Final = "containerd.io/snapshot/stargz/toc.digest"
"""Digest of an eStargz layer's table of contents."""
STARGZ_UNCOMPRESSED_SIZE: Final = "io.containers.estargz.uncompressed-size"
"""Bytes of an eStargz layer's tar."""

# Keys of an image config.

INLINE_CACHE: Final = "moby.buildkit.cache.v0"
"""Cache data that is embedded in an image, base64."""


class MetadataValueError(ImageError):
    """A value, or a key, in the metadata of a build result cannot be used.

    Args:
        key: The key.
        message: BuildKit's text.

    Attributes:
        key: The key.
        field: The path of the request field at fault, as a server tells it to its client.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message, field=f"source.metadata[{key}]")
        self.key = key


def platform_key(key: str, platform_id: str) -> str:
    """The key that holds one platform's value."""
    return f"{key}/{platform_id}"


def parse_key(metadata: Mapping[str, bytes], key: str, platform_id: str | None = None) -> bytes | None:
    """The value for a platform, else the one for all; None if there is neither.

    Args:
        metadata: Of the build result.
        key: Without platform.
        platform_id: None for only the value that is for all.
    """
    if platform_id is not None:
        value = metadata.get(platform_key(key, platform_id))
        if value is not None:
            return value
    return metadata.get(key)
