from __future__ import annotations

import json
from typing import Any

import pytest

from exporter.content import children, gc_labels, is_parent, must_not_be_distributed
from exporter.content.manifest import decode_descriptor
from exporter.errors import InvalidArgumentError
from exporter.image import Descriptor, Platform
from exporter.image.media_types import (
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
)
from tests import builds
from tests.unit.content.images import describe, index, manifest, to_json

CONFIG = describe(b"{}", OCI_CONFIG)
LAYER = describe(b"layer")


def _document(media_type: str, **fields: Any) -> tuple[Descriptor, bytes]:
    data = to_json(fields)
    return describe(data, media_type), data


def _children(media_type: str, **fields: Any) -> tuple[Descriptor, ...]:
    return children(*_document(media_type, **fields))


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, DOCKER_MANIFEST])
def test_a_manifest_has_its_config_and_its_layers(media_type: str) -> None:
    config, layer = CONFIG.to_dict(), LAYER.to_dict()
    assert _children(media_type, config=config, layers=[layer, layer]) == (CONFIG, LAYER, LAYER)
    assert _children(media_type, config=config, layers=None) == (CONFIG,)
    assert _children(media_type, config=config) == (CONFIG,)


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_MANIFEST_LIST])
def test_an_index_has_its_manifests(media_type: str) -> None:
    platform = Platform(architecture="arm64", os="linux", variant="v8")
    child = Descriptor(OCI_MANIFEST, LAYER.digest, 5, platform=platform)
    assert _children(media_type, manifests=[child.to_dict()]) == (child,)
    assert _children(media_type, manifests=[]) == ()
    assert _children(media_type) == ()


@pytest.mark.parametrize("media_type", [OCI_CONFIG, OCI_LAYER, "application/vnd.in-toto+json", ""])
def test_other_blobs_have_no_children(media_type: str) -> None:
    data = manifest(b"{}", LAYER)
    assert children(describe(data, media_type), data) == ()


def test_keys_are_read_as_go_reads_them() -> None:
    # A reader in Go would see these layers, so a copy must include them.
    assert _children(OCI_MANIFEST, CONFIG=CONFIG.to_dict(), Layers=[LAYER.to_dict()]) == (CONFIG, LAYER)


@pytest.mark.parametrize(
    ("media_type", "fields", "message"),
    [
        (OCI_MANIFEST, {"manifests": []}, "expected a manifest but found an index"),
        (OCI_MANIFEST, {"mediaType": OCI_INDEX, "config": CONFIG.to_dict()}, "expected a manifest"),
        (OCI_INDEX, {"layers": []}, "expected an index but found a manifest"),
        (OCI_INDEX, {"config": CONFIG.to_dict()}, "expected an index but found a manifest"),
        (OCI_INDEX, {"mediaType": DOCKER_MANIFEST}, "expected an index but found a manifest"),
        (OCI_MANIFEST, {"fsLayers": []}, "schema 1 is not supported"),
        (OCI_MANIFEST, {}, "config is missing"),
        (OCI_MANIFEST, {"config": {"digest": "sha256:1", "size": 1}}, "config: digest 'sha256:1': invalid"),
        (OCI_INDEX, {"manifests": [CONFIG.to_dict(), {}]}, r"manifests\[1\]: digest ''"),
        (
            OCI_MANIFEST,
            {"config": CONFIG.to_dict(), "layers": [{"size": "5"}]},
            "layers.0.size of type int64",
        ),
    ],
)
def test_malformed_documents_are_refused(media_type: str, fields: dict[str, Any], message: str) -> None:
    descriptor, data = _document(media_type, **fields)
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        children(descriptor, data)
    assert descriptor.digest in str(caught.value)


def test_text_that_is_not_json_is_rejected() -> None:
    with pytest.raises(InvalidArgumentError, match="unexpected end of JSON input"):
        children(describe(b"{", OCI_MANIFEST), b"{")


def test_every_recorded_image_is_read() -> None:
    names = ["multi-platform", "provenance-multi-max", "docker-types-zstd", "metadata-only"]
    for name in names:
        blobs = builds.scenario(name) / "oci" / "blobs" / "sha256"
        pending = [Descriptor.from_dict(builds.read_json(name, "result.json")["root_descriptor"])]
        found = set()
        while pending:
            descriptor = pending.pop()
            found.add(descriptor.digest.removeprefix("sha256:"))
            data = (blobs / descriptor.digest.removeprefix("sha256:")).read_bytes()
            pending.extend(children(descriptor, data))
        assert found == {path.name for path in blobs.iterdir()}


def test_a_descriptor_survives_its_json() -> None:
    descriptor = Descriptor(
        OCI_MANIFEST,
        LAYER.digest,
        5,
        ("https://example.com/<blob>",),
        {"b": "1", "a": "\u2028"},
        b"\x00data",
        Platform(architecture="arm", os="linux", os_version="10.0", os_features=("b", "a"), variant="v7"),
        "application/x",
    )
    assert decode_descriptor(descriptor.marshal()) == descriptor


def test_parents_and_layers_that_must_not_be_distributed() -> None:
    assert is_parent(describe(index(), OCI_INDEX))
    assert not is_parent(LAYER)
    for media_type in (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.zstd",
    ):
        assert must_not_be_distributed(describe(b"", media_type))
    assert not must_not_be_distributed(LAYER)


def test_labels_for_the_garbage_collector_are_those_of_buildkit() -> None:
    assert gc_labels((CONFIG, LAYER)) == {
        "containerd.io/gc.ref.content.part.0": CONFIG.digest,
        "containerd.io/gc.ref.content.part.1": LAYER.digest,
    }
    assert json.loads(manifest(b"{}"))["layers"] == []
