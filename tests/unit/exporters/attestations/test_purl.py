from __future__ import annotations

import pytest

from exporter.exporters.attestations.purl import image_purl
from exporter.image import ImageError, Platform

DIGEST = f"sha256:{'ab' * 32}"
AMD64 = Platform(architecture="amd64", os="linux")


@pytest.mark.parametrize(
    ("name", "purl"),
    [
        ("alpine", "pkg:docker/alpine@latest?platform=linux%2Famd64"),
        ("library/alpine:3.15", "pkg:docker/alpine@3.15?platform=linux%2Famd64"),
        (f"alpine:3.15@{DIGEST}", f"pkg:docker/alpine@3.15?digest={DIGEST}&platform=linux%2Famd64"),
        (f"alpine@{DIGEST}", f"pkg:docker/alpine?digest={DIGEST}&platform=linux%2Famd64"),
        ("user/test:v2", "pkg:docker/user/test@v2?platform=linux%2Famd64"),
        ("ghcr.io/foo/bar", "pkg:docker/ghcr.io/foo/bar@latest?platform=linux%2Famd64"),
        ("localhost:5000/a/b__c:1", "pkg:docker/localhost%3A5000/a/b__c@1?platform=linux%2Famd64"),
    ],
)
def test_names(name: str, purl: str) -> None:
    assert image_purl(name, AMD64) == purl


def test_the_platform_is_normalised() -> None:
    platform = Platform(architecture="aarch64", os="linux", variant="v8")
    assert image_purl("a", platform) == "pkg:docker/a@latest?platform=linux%2Farm64"


def test_invalid_names() -> None:
    with pytest.raises(ImageError) as raised:
        image_purl("UPPER CASE", AMD64)
    assert str(raised.value) == (
        'failed to parse ref "UPPER CASE": invalid reference format: '
        "repository name (library/UPPER CASE) must be lowercase"
    )
