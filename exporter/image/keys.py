"""The keys of metadata, responses and annotations.

The frontend's metadata maps keys to bytes. A key applies to all platforms or, with the suffix ``/<platform
ID>``, to one. An exporter's response and a descriptor's annotations map keys to strings. Keys and meanings
are those of BuildKit, containerd, Docker and the OCI.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

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
"""The epoch to clamp timestamps to, in seconds since 1970; by platform."""

ATTESTATION_REASON: Final = "reason"
"""In an attestation's own metadata: the reason for it, ``sbom`` or ``provenance``."""
ATTESTATION_SBOM_CORE: Final = "sbom-core"
"""In an attestation's own metadata: base name of the SBOM about the image itself, not its build stages."""
ATTESTATION_INLINE_ONLY: Final = "inline-only"
"""In an attestation's own metadata: ``true`` if only images carry it, not directories and archives."""

# The response of an exporter.

RESPONSE_PREFIX: Final = "containerimage."
"""The prefix of BuildKit's keys about an image."""
IMAGE_DIGEST: Final = "containerimage.digest"
"""Digest of the image's root, a manifest or an index (moby: the image ID)."""
IMAGE_CONFIG_DIGEST: Final = "containerimage.config.digest"
"""Digest of the config; only if the root is a manifest."""
IMAGE_DESCRIPTOR: Final = "containerimage.descriptor"
"""The root's descriptor, base64 of its JSON."""
CACHE_MANIFEST: Final = "cache.manifest"
"""From a daemon: the descriptor of an exported cache, JSON."""
FRONTEND_PREFIX: Final = "frontend."
"""The prefix of the keys that a frontend passes to the client, through its result's metadata."""
ENGINE_IMAGE_ID: Final = "docker.image.id"
"""Ours: the IDs of the images that a Docker engine loaded, separated by commas."""
ENGINE_IMAGE_NAME: Final = "docker.image.name"
"""Ours: the names of these images in the engine, separated by commas."""

# Annotations of descriptors, and labels of blobs.

DIFF_ID: Final = "containerd.io/uncompressed"
"""A layer's diff ID, the digest of its uncompressed bytes; not written to manifests."""
DISTRIBUTION_SOURCE_PREFIX: Final = "containerd.io/distribution.source."
"""With a registry's host as suffix: the repositories there that have the blob; not written to manifests."""
LAYER_CREATED_AT: Final = "buildkit/createdat"
"""When a layer was created; not written to manifests."""
REWRITTEN_TIMESTAMP: Final = "buildkit/rewritten-timestamp"
"""The epoch that a layer's timestamps have been clamped to."""
PREDICATE_TYPE: Final = "in-toto.io/predicate-type"
"""The type of the predicate in an attestation's blob."""
REFERENCE_TYPE: Final = "vnd.docker.reference.type"
"""The kind of a manifest in an index that is not an image, such as `ATTESTATION_REFERENCE`."""
ATTESTATION_REFERENCE: Final = "attestation-manifest"
"""The value of `REFERENCE_TYPE` for attestations."""
REFERENCE_DIGEST: Final = "vnd.docker.reference.digest"
"""The digest of the manifest that an attestation manifest refers to."""
CREATED: Final = "org.opencontainers.image.created"
"""When an image was created."""
REF_NAME: Final = "org.opencontainers.image.ref.name"
"""In an OCI layout's index: the name within the layout, by convention only the tag."""
CONTAINERD_NAME: Final = "io.containerd.image.name"
"""In an OCI layout's index: the image's full name."""
STARGZ_TOC_DIGEST: Final = "containerd.io/snapshot/stargz/toc.digest"
"""The digest of an eStargz layer's table of contents."""
STARGZ_UNCOMPRESSED_SIZE: Final = "io.containers.estargz.uncompressed-size"
"""The size of an eStargz layer's tar, in bytes."""

# Keys of an image config.

INLINE_CACHE: Final = "moby.buildkit.cache.v0"
"""Cache data that is embedded in an image, base64."""


class MetadataValueError(ImageError):
    """A value or a key in the metadata of a build result is invalid.

    Args:
        key: The key.
        message: BuildKit's text.

    Attributes:
        key: The key.
        field: The path of the request field at fault, as a server reports it to its client.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message, field=f"source.metadata[{key}]")
        self.key = key


def platform_key(key: str, platform_id: str) -> str:
    """The key for one platform's value."""
    return f"{key}/{platform_id}"


def parse_key(metadata: Mapping[str, bytes], key: str, platform_id: str | None = None) -> bytes | None:
    """The value for a platform, or else the one for all platforms; None if there is neither.

    Args:
        metadata: The build result's metadata.
        key: The key without platform.
        platform_id: The platform; None to read only the value for all platforms.
    """
    if platform_id is not None:
        value = metadata.get(platform_key(key, platform_id))
        if value is not None:
            return value
    return metadata.get(key)
