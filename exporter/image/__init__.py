"""The pure core: what BuildKit's and moby's image exporters compute, as functions from bytes to bytes.

No I/O, no asyncio, no gRPC, and nothing imported from the rest of the package.
"""

from __future__ import annotations

from exporter.image.compression import CompressionConfig
from exporter.image.descriptor import Descriptor
from exporter.image.digest import digest_bytes, parse_digest
from exporter.image.errors import ImageError, LayerChainError
from exporter.image.history import LayerMetadata
from exporter.image.platforms import Platform
from exporter.image.timestamp import Time

__all__ = [
    "CompressionConfig",
    "Descriptor",
    "ImageError",
    "LayerChainError",
    "LayerMetadata",
    "Platform",
    "Time",
    "digest_bytes",
    "parse_digest",
]
