"""How to compress layers: BuildKit's attributes ``compression``, ``force-compression`` and so on."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from exporter.errors import ImageError
from exporter.image.go import text as gotext
from exporter.image.options.attributes import (
    COMPRESSION,
    COMPRESSION_LEVEL,
    FORCE_COMPRESSION,
    AttributeValueError,
)


class CompressionType(enum.StrEnum):
    """The compression types, as users spell them."""

    UNCOMPRESSED = "uncompressed"
    GZIP = "gzip"
    ESTARGZ = "estargz"
    ZSTD = "zstd"

    @property
    def only_supports_oci_types(self) -> bool:
        """Whether an image with Docker media types cannot have such layers."""
        return self is CompressionType.ESTARGZ


@dataclass(frozen=True, slots=True)
class CompressionConfig:
    """How to compress layers.

    Attributes:
        type: The compression of new layers.
        force: Also convert existing layers that have a different compression.
        level: The compressor's level; None for its default. As in BuildKit, any number is accepted.
    """

    type: CompressionType = CompressionType.GZIP
    force: bool = False
    level: int | None = None

    @classmethod
    def load(cls, attrs: Mapping[str, str]) -> CompressionConfig:
        """Read the three attributes; missing ones get their defaults.

        Raises:
            AttributeValueError: a value is invalid; with BuildKit's text.
        """
        return cls(type=_load_type(attrs), force=_load_force(attrs), level=_load_level(attrs))


def _load_type(attrs: Mapping[str, str]) -> CompressionType:
    value = attrs.get(COMPRESSION)
    if value is None:
        return CompressionType.GZIP
    try:
        return CompressionType(value)
    except ValueError:
        raise AttributeValueError(COMPRESSION, f"unsupported compression type {value}") from None


def _load_force(attrs: Mapping[str, str]) -> bool:
    value = attrs.get(FORCE_COMPRESSION, "false")
    if not value:
        return True
    try:
        return gotext.parse_bool(value)
    except ImageError as error:
        text = f"non-bool value {value} specified for {FORCE_COMPRESSION}: {error}"
        raise AttributeValueError(FORCE_COMPRESSION, text) from error


def _load_level(attrs: Mapping[str, str]) -> int | None:
    value = attrs.get(COMPRESSION_LEVEL)
    if value is None:
        return None
    try:
        return gotext.parse_int(value)
    except ImageError as error:
        text = f"non-integer value {value} specified for {COMPRESSION_LEVEL}: {error}"
        raise AttributeValueError(COMPRESSION_LEVEL, text) from error
