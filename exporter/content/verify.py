"""Checking blobs against what was promised for them."""

from __future__ import annotations

import hashlib

from exporter.content.protocol import BlobInfo
from exporter.errors import DataLossError, InvalidArgumentError
from exporter.image import Descriptor, ImageError, parse_digest


def split_digest(digest: str) -> tuple[str, str]:
    """Split a digest into algorithm and hexadecimal digits; both are then safe as parts of a path.

    Raises:
        InvalidArgumentError: it is malformed, or its algorithm is unknown.
    """
    try:
        return parse_digest(digest)
    except ImageError as error:
        raise InvalidArgumentError(f"digest {digest!r}: {error}") from error


class Verifier:
    """Hashes a blob as it goes by.

    Hashing takes its time for large pieces: call `update` in a thread. One call at a time.

    Args:
        expected: What the blob must be; None if all is fine.

    Raises:
        InvalidArgumentError: the descriptor's digest or size is none.
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
        """Take the next piece.

        Raises:
            DataLossError: the blob is longer than promised. Known early, so that nobody can fill the disk.
        """
        self._size += len(data)
        if self._expected is not None and self._size > self._expected.size:
            raise DataLossError(
                f"blob {self._expected.digest} is longer than its {self._expected.size} bytes"
            )
        self._hash.update(data)

    def finish(self) -> BlobInfo:
        """Say what the blob is.

        Raises:
            DataLossError: it is not what was promised.
        """
        info = BlobInfo(f"{self._algorithm}:{self._hash.hexdigest()}", self._size)
        if self._expected is None:
            return info
        if info.size != self._expected.size:
            raise DataLossError(
                f"blob {self._expected.digest} ends after {info.size} of its {self._expected.size} bytes"
            )
        if info.digest != self._expected.digest:
            raise DataLossError(f"blob {self._expected.digest} has the digest {info.digest}: it was changed")
        return info
