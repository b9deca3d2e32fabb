"""The metadata of a build result, and the keys in an exporter's answer.

The frontend's metadata maps keys to bytes. A key can stand for all platforms or, with ``/<platform ID>``
behind it, for one. Keys and meanings are BuildKit's.
"""

from __future__ import annotations

from collections.abc import Mapping

from exporter.errors import ImageError

IMAGE_CONFIG = "containerimage.config"
"""In: the image config, JSON; by platform."""
IMAGE_BASE_CONFIG = "containerimage.base.config"
"""In: the config of the base image, JSON; by platform. Its history is not clamped to the epoch."""
IMAGE_NAME = "image.name"
"""In: names for an exporter whose ``name`` is ``*``. Out: the image's names, separated by commas."""
PLATFORMS = "refs.platforms"
"""In: the platforms of a keyed result, JSON; see `exporter.image.platforms.result`."""
EPOCH = "source.date.epoch"
"""In: seconds since 1970 that timestamps are clamped to; by platform."""

IMAGE_DIGEST = "containerimage.digest"
"""Out: digest of the image's root, a manifest or an index (moby: the image ID)."""
IMAGE_CONFIG_DIGEST = "containerimage.config.digest"
"""Out: digest of the config; only if the root is a manifest."""
IMAGE_DESCRIPTOR = "containerimage.descriptor"
"""Out: the root's descriptor, base64 of its JSON."""
CONFIG_DIGEST = "config.digest"
"""Annotation by which BuildKit's parts tell each other the digest of an image's config; never written."""

BY_PLATFORM = (IMAGE_CONFIG, IMAGE_BASE_CONFIG)
"""The keys that BuildKit's frontends and the gateway set per platform (``KnownRefMetadataKeys``)."""

ATTESTATION_REASON = "reason"
"""In an attestation's own metadata: why it was made, ``sbom`` or ``provenance``."""
ATTESTATION_SBOM_CORE = "sbom-core"
"""In an attestation's own metadata: base name of the SBOM about the image itself, not its build stages."""
ATTESTATION_INLINE_ONLY = "inline-only"
"""In an attestation's own metadata: ``true`` if only images carry it, not directories and archives."""


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
