from __future__ import annotations

import hashlib

import pytest

from exporter.content.protocol import BlobInfo
from exporter.content.verify import Verifier, split_digest
from exporter.errors import DataLossError, InvalidArgumentError
from exporter.image import Descriptor, digest_bytes


def _expect(digest: str, size: int) -> Verifier:
    return Verifier(Descriptor("", digest, size))


def test_returns_digest_and_size_without_a_descriptor() -> None:
    verifier = Verifier()
    verifier.update(b"ab")
    verifier.update(b"c")
    assert verifier.finish() == BlobInfo(digest_bytes(b"abc"), 3)


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_uses_the_algorithm_of_the_descriptor(algorithm: str) -> None:
    digest = f"{algorithm}:{hashlib.new(algorithm, b'abc').hexdigest()}"
    verifier = _expect(digest, 3)
    verifier.update(b"abc")
    assert verifier.finish() == BlobInfo(digest, 3)


def test_refuses_another_digest() -> None:
    verifier = _expect(digest_bytes(b"abc"), 3)
    verifier.update(b"abd")
    with pytest.raises(DataLossError, match="is corrupt"):
        verifier.finish()


def test_refuses_too_few_bytes() -> None:
    verifier = _expect(digest_bytes(b"abc"), 3)
    verifier.update(b"ab")
    with pytest.raises(DataLossError, match="ends after 2 of its 3 bytes"):
        verifier.finish()


def test_refuses_excess_bytes_immediately() -> None:
    verifier = _expect(digest_bytes(b"abc"), 3)
    with pytest.raises(DataLossError, match="longer than its 3 bytes"):
        verifier.update(b"abcd")


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:abc",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 64 + "\n",
        "sha256:../../../../../../../../../../../../../../../../../../etc/passwd" + "a" * 64,
        "../sha256:" + "a" * 64,
        "sha256/../x:" + "a" * 64,
    ],
)
def test_rejects_invalid_digests(digest: str) -> None:
    with pytest.raises(InvalidArgumentError, match="digest"):
        split_digest(digest)
    with pytest.raises(InvalidArgumentError):
        _expect(digest, 1)


def test_refuses_a_negative_size() -> None:
    with pytest.raises(InvalidArgumentError, match="-1"):
        _expect(digest_bytes(b""), -1)
