"""The attributes of exporters (``--output type=image,name=…``): their keys, and how to read their values.

Keys and rules are BuildKit's. Attributes arrive in a protobuf map, so their order means nothing. If several
are invalid, BuildKit reports a random one; here it is the first by name, so that the error is deterministic.
"""

from __future__ import annotations

from exporter.errors import ImageError
from exporter.image.go import text as gotext

NAME = "name"
"""Names of the image, separated by commas; ``*`` means those that the frontend set as ``image.name``."""
PUSH = "push"
"""Push the image to the registries in its names."""
PUSH_BY_DIGEST = "push-by-digest"
"""Push without a tag."""
REGISTRY_INSECURE = "registry.insecure"
"""Allow plain HTTP and unverified TLS."""
UNPACK = "unpack"
"""Unpack the image into the store's snapshotter."""
STORE = "store"
"""Keep the image, with everything that it references, in the image store. On by default."""
STORE_ALLOW_INCOMPLETE = "unsafe-internal-store-allow-incomplete"
"""Store the image without fetching its lazy layers."""
DANGLING_NAME_PREFIX = "dangling-name-prefix"
"""Give the image the additional name ``<value>@<digest>``."""
DANGLING_NAME_EMPTY_ONLY = "danging-name-empty-only"
"""Do that only if it has no other name. (The typo in the key is upstream's.)"""
NAME_CANONICAL = "name-canonical"
"""Add ``<name>@<digest>`` for every name."""
OCI_MEDIATYPES = "oci-mediatypes"
"""OCI media types instead of Docker's."""
OCI_ARTIFACT = "oci-artifact"
"""Write attestation manifests as OCI artifacts."""
ATTESTATION_INLINE = "attestation-inline"
"""Attach inline-only attestations as well."""
PREFER_NONDIST_LAYERS = "prefer-nondist-layers"
"""Keep non-distributable layers non-distributable."""
REWRITE_TIMESTAMP = "rewrite-timestamp"
"""Clamp the timestamps of files in layers to the epoch."""
SOURCE_DATE_EPOCH = "source-date-epoch"
"""Clamp timestamps; seconds since 1970. Empty: ignore the frontend's epoch."""
COMPRESSION = "compression"
"""``uncompressed``, ``gzip``, ``estargz`` or ``zstd``."""
FORCE_COMPRESSION = "force-compression"
"""Also recompress existing layers."""
COMPRESSION_LEVEL = "compression-level"
"""The compressor's level."""
TAR = "tar"
"""One archive (the default), or an OCI layout directory."""
ATTESTATION_PREFIX = "attestation-prefix"
"""A prefix for the names of attestation files."""
PLATFORM_SPLIT = "platform-split"
"""One directory per platform. The default if the result is keyed by platform."""
MODE = "mode"
"""``copy`` keeps files that are already in the destination; ``delete`` removes them."""


class AttributeValueError(ImageError):
    """The value of an exporter's attribute is invalid.

    Args:
        attribute: The attribute's key.
        message: BuildKit's text.

    Attributes:
        attribute: The attribute's key.
        field: The path of the request field at fault, as a server reports it to its client.
    """

    def __init__(self, attribute: str, message: str) -> None:
        super().__init__(message, field=f"attrs[{attribute}]")
        self.attribute = attribute


def parse_bool_attribute(attribute: str, value: str, *, empty: bool | None = None) -> bool:
    """Read the value of a boolean attribute.

    Args:
        attribute: The attribute's key.
        value: The attribute's value.
        empty: The meaning of an empty value. BuildKit allows some attributes without a value; for others
            (None) that is an error.

    Raises:
        AttributeValueError: Go does not accept the value as a boolean; with BuildKit's text.
    """
    if not value and empty is not None:
        return empty
    try:
        return gotext.parse_bool(value)
    except ImageError as error:
        text = f"non-bool value specified for {attribute}: {error}"
        raise AttributeValueError(attribute, text) from error
