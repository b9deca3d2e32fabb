"""Media types of layers."""

from __future__ import annotations

import pytest

from exporter.image import media_types as types
from exporter.image.media_types import convert_layer_type, distributability

PAIRS = [
    (types.OCI_LAYER, types.DOCKER_LAYER),
    (types.OCI_LAYER_GZIP, types.DOCKER_LAYER_GZIP),
    (types.OCI_LAYER_ZSTD, types.DOCKER_LAYER_ZSTD),
    (types.OCI_LAYER_NONDISTRIBUTABLE, types.DOCKER_LAYER_FOREIGN),
    (types.OCI_LAYER_NONDISTRIBUTABLE_GZIP, types.DOCKER_LAYER_FOREIGN_GZIP),
]
UNKNOWN = [
    types.OCI_LAYER_NONDISTRIBUTABLE_ZSTD,
    types.DOCKER_LAYER_FOREIGN + ".zstd",
    types.OCI_LAYER.upper(),
    f"{types.OCI_LAYER}; a=b",
    "",
]


@pytest.mark.parametrize(("oci", "docker"), PAIRS)
def test_families(oci: str, docker: str) -> None:
    for media_type in oci, docker:
        assert convert_layer_type(media_type, oci=True) == oci
        assert convert_layer_type(media_type, oci=False) == docker


@pytest.mark.parametrize("media_type", UNKNOWN)
def test_types_without_a_counterpart_are_kept(media_type: str) -> None:
    assert convert_layer_type(media_type, oci=True) == media_type
    assert convert_layer_type(media_type, oci=False) == media_type


@pytest.mark.parametrize(
    ("layer", "nondistributable"),
    [
        (types.OCI_LAYER, types.OCI_LAYER_NONDISTRIBUTABLE),
        (types.OCI_LAYER_GZIP, types.OCI_LAYER_NONDISTRIBUTABLE_GZIP),
        (types.OCI_LAYER_ZSTD, types.OCI_LAYER_NONDISTRIBUTABLE_ZSTD),
        (types.DOCKER_LAYER, types.DOCKER_LAYER_FOREIGN),
        (types.DOCKER_LAYER_GZIP, types.DOCKER_LAYER_FOREIGN_GZIP),
    ],
)
def test_distributability(layer: str, nondistributable: str) -> None:
    for stored in layer, nondistributable:
        assert distributability(stored, has_urls=True, prefer_nondistributable=True) == nondistributable
        assert distributability(stored, has_urls=True, prefer_nondistributable=False) == layer
        assert distributability(stored, has_urls=False, prefer_nondistributable=True) == layer
    assert distributability("x", has_urls=True, prefer_nondistributable=True) == "x"
