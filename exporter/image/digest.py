"""Content digests such as ``sha256:…``, by the rules of ``opencontainers/go-digest``."""

from __future__ import annotations

import hashlib
import re

from exporter.errors import ImageError

# The algorithms that go-digest knows, and the length of their digests in hexadecimal digits.
_ENCODED_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_ENCODED = re.compile(r"[a-f0-9]+", re.ASCII)
_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+", re.ASCII)


def digest_bytes(data: bytes) -> str:
    """The SHA-256 digest of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def parse_digest(text: str) -> tuple[str, str]:
    """Split a digest into algorithm and hexadecimal digits, both safe to use in a path.

    Raises:
        ImageError: it is malformed, or its algorithm is unknown; with go-digest's text.
    """
    algorithm, colon, encoded = text.partition(":")
    if not algorithm or not colon or not encoded:
        raise ImageError("invalid checksum digest format")
    length = _ENCODED_LENGTHS.get(algorithm)
    if length is None:
        raise ImageError(
            "unsupported digest algorithm" if _DIGEST.fullmatch(text) else "invalid checksum digest format"
        )
    if len(encoded) != length:
        raise ImageError("invalid checksum digest length")
    if not _ENCODED.fullmatch(encoded):
        raise ImageError("invalid checksum digest format")
    return algorithm, encoded
