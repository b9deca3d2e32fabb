"""Digests by the rules of go-digest."""

from __future__ import annotations

import hashlib

import pytest

from exporter.image import ImageError, digest_bytes, parse_digest


def test_digest_bytes() -> None:
    assert digest_bytes(b"{}") == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_parse_digest(algorithm: str) -> None:
    encoded = hashlib.new(algorithm, b"x").hexdigest()
    assert parse_digest(f"{algorithm}:{encoded}") == (algorithm, encoded)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid checksum digest format"),
        ("sha256", "invalid checksum digest format"),
        ("sha256:", "invalid checksum digest format"),
        (":" + "a" * 64, "invalid checksum digest format"),
        ("sha256:" + "a" * 63, "invalid checksum digest length"),
        ("sha256:" + "A" * 64, "invalid checksum digest format"),
        ("sha256:" + "../" * 21 + "a", "invalid checksum digest format"),
        ("sha256:" + "a" * 63 + "\n", "invalid checksum digest format"),
        ("md5:" + "a" * 32, "unsupported digest algorithm"),
        ("a+b:x=_-", "unsupported digest algorithm"),
        ("../x:" + "a" * 64, "invalid checksum digest format"),
        ("SHA256:" + "a" * 64, "invalid checksum digest format"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        parse_digest(text)
    assert str(caught.value) == message
