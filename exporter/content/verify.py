"""Verifying blobs against their descriptors."""

from __future__ import annotations

import hashlib

from exporter.content.protocol import BlobInfo
from exporter.errors import DataLossError, InvalidArgumentError
from exporter.image import Descriptor, ImageError, parse_digest


def split_digest(digest: str) -> tuple[str, str]:
    """Split a digest into algorithm and hexadecimal digits, both safe to use in a path.

    Raises:
        InvalidArgumentError: it is malformed, or its algorithm is unknown.
    """
    try:
        return parse_digest(digest)
    except ImageError as error:
        raise InvalidArgumentError(f"digest {digest!r}: {error}") from error


class Verifier:
    """Hashes and verifies a blob incrementally.

    Hashing large chunks takes time, so call `update` in a thread, but not concurrently.

    Args:
        expected: The blob's descriptor; None to accept any blob.

    Raises:
        InvalidArgumentError: the descriptor's digest or size is invalid.
    """

    def __init__(self, expected: Descriptor | None = None) -> None:
        self._expected = expected
        self._size = 0
        algorithm = "sha256"
        if expected is not None:
            algorithm, _ = split_digest(expected.digest)
            if expected.size < 0:
                raise InvalidArgumentError(f"blob {expected.digest} cannot have a size of {expected.size}")
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)

    def update(self, data: bytes) -> None:
        """Add the next chunk.

        Raises:
            DataLossError: the blob is longer than its descriptor says. Raised early, so that a peer cannot
                fill the disk.
        """
        self._size += len(data)
        if self._expected is not None and self._size > self._expected.size:
            raise DataLossError(
                f"blob {self._expected.digest} is longer than its {self._expected.size} bytes"
            )
        self._hash.update(data)

    def finish(self) -> BlobInfo:
        """Finish, and return the blob's digest and size.

        Raises:
            DataLossError: they do not match the descriptor.
        """
        info = BlobInfo(f"{self._algorithm}:{self._hash.hexdigest()}", self._size)
        if self._expected is None:
            return info
        if info.size != self._expected.size:
            raise DataLossError(
                f"blob {self._expected.digest} ends after {info.size} of its {self._expected.size} bytes"
            )
        if info.digest != self._expected.digest:
            raise DataLossError(f"blob {self._expected.digest} is corrupt: its digest is {info.digest}")
        return info
