"""The attributes of exporters (``--output type=image,name=…``): their keys, and how their values are read.

Keys and rules are BuildKit's. Values are text; the attributes themselves come from a protobuf map, so their
order has no meaning. Where several are wrong BuildKit names a random one; here it is the first by name, so
that an answer can be repeated.
"""

from __future__ import annotations

from exporter.errors import ImageError
from exporter.image.go import text as gotext

NAME = "name"
"""Names of the image, separated by commas; ``*`` means those that the frontend gave as ``image.name``."""
PUSH = "push"
"""Push the image to the registries in its names."""
PUSH_BY_DIGEST = "push-by-digest"
"""Push without a tag."""
REGISTRY_INSECURE = "registry.insecure"
"""Allow plain HTTP and unverified TLS."""
UNPACK = "unpack"
"""Unpack the image into the store's snapshotter."""
STORE = "store"
"""Keep the image, with all that it references, in the image store. On by default."""
STORE_ALLOW_INCOMPLETE = "unsafe-internal-store-allow-incomplete"
"""Store the image without fetching its lazy layers."""
DANGLING_NAME_PREFIX = "dangling-name-prefix"
"""Give the image the additional name ``<value>@<digest>``."""
DANGLING_NAME_EMPTY_ONLY = "danging-name-empty-only"
"""Do that only if it has no other name. (The key is misspelt upstream, too.)"""
NAME_CANONICAL = "name-canonical"
"""Add ``<name>@<digest>`` for every name."""
OCI_MEDIATYPES = "oci-mediatypes"
"""OCI media types in place of Docker's."""
OCI_ARTIFACT = "oci-artifact"
"""Write attestation manifests as OCI artifacts."""
ATTESTATION_INLINE = "attestation-inline"
"""Attach inline-only attestations as well."""
PREFER_NONDIST_LAYERS = "prefer-nondist-layers"
"""Keep layers non-distributable that are."""
REWRITE_TIMESTAMP = "rewrite-timestamp"
"""Clamp the timestamps of files in layers to the epoch."""
SOURCE_DATE_EPOCH = "source-date-epoch"
"""Clamp timestamps; seconds since 1970. Empty: an epoch that the frontend gave is ignored."""
COMPRESSION = "compression"
"""``uncompressed``, ``gzip``, ``estargz`` or ``zstd``."""
FORCE_COMPRESSION = "force-compression"
"""Recompress existing layers, too."""
COMPRESSION_LEVEL = "compression-level"
"""The compressor's level."""
TAR = "tar"
"""One archive (the default), or an OCI layout directory."""
ATTESTATION_PREFIX = "attestation-prefix"
"""Put before the names of attestation files."""
PLATFORM_SPLIT = "platform-split"
"""One directory per platform. By default if the result is keyed by platform."""
MODE = "mode"
"""``copy`` or ``delete``: whether files that are in the destination already stay."""


class AttributeValueError(ImageError):
    """The value of an exporter's attribute cannot be used.

    Args:
        attribute: Its key.
        message: BuildKit's text.

    Attributes:
        attribute: Its key.
        field: The path of the request field at fault, as a server tells it to its client.
    """

    def __init__(self, attribute: str, message: str) -> None:
        super().__init__(message, field=f"attrs[{attribute}]")
        self.attribute = attribute


def parse_bool_attribute(attribute: str, value: str, *, empty: bool | None = None) -> bool:
    """Read the value of a boolean attribute.

    Args:
        attribute: Its key.
        value: Its value.
        empty: What an empty value means. BuildKit has both kinds of attributes, those that may be given as a
            bare word and those (None) for which that is an error.

    Raises:
        AttributeValueError: the value is none of Go's words for booleans; with BuildKit's text.
    """
    if not value and empty is not None:
        return empty
    try:
        return gotext.parse_bool(value)
    except ImageError as error:
        text = f"non-bool value specified for {attribute}: {error}"
        raise AttributeValueError(attribute, text) from error
