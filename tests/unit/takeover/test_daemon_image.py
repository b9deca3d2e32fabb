"""Attestations read back from a daemon's image."""

from __future__ import annotations

import json
from typing import Any

import pytest

from exporter.content.memory import MemoryStore
from exporter.image import Descriptor, digest_bytes
from exporter.takeover.daemon_image import read_image

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
SPDX = "https://spdx.dev/Document"
PROVENANCE = "https://slsa.dev/provenance/v1"


class Image:
    """An image without layers, of which something is attested."""

    def __init__(self, *statements: dict[str, Any]) -> None:
        self._blobs: list[bytes] = []
        config = self._put("application/vnd.oci.image.config.v1+json", {"rootfs": {"diff_ids": []}})
        image = self._put(MANIFEST, {"config": config, "layers": []})
        layers = [self._put("application/vnd.in-toto+json", statement) for statement in statements]
        about = self._put(MANIFEST, {"config": config, "layers": layers})
        about["annotations"] = {"vnd.docker.reference.digest": image["digest"]}
        index = self._put("application/vnd.oci.image.index.v1+json", {"manifests": [image, about]})
        self.root = Descriptor.from_dict(index)
        self.store = MemoryStore(*self._blobs)

    def _put(self, media_type: str, document: Any) -> dict[str, Any]:
        data = json.dumps(document).encode()
        self._blobs.append(data)
        return {"mediaType": media_type, "digest": digest_bytes(data), "size": len(data)}


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        (["sbom"], ["sbom.spdx.json"]),
        (["<anything>"], ["sbom.spdx.json"]),
        ([None], ["sbom.spdx.json"]),
        (["sbom-a", "sbom-b.c", "sbom"], ["sbom-a.spdx.json", "sbom-b.c.spdx.json", "sbom.spdx.json"]),
        (["sbom-../../x"], ["sbom.spdx.json"]),
        (["sbom-a", "sbom-a"], ["sbom-a.spdx.json", "attestation-1.json"]),
    ],
)
async def test_sboms_have_the_names_that_scanners_give_them(
    names: list[str | None], paths: list[str]
) -> None:
    documents = [{} if name is None else {"name": name} for name in names]
    image = Image(*({"predicateType": SPDX, "predicate": document} for document in documents))
    [platform] = (await read_image(image.store, image.root)).platforms
    assert [attestation.path for attestation in platform.attestations] == paths


async def test_other_attestations() -> None:
    image = Image(
        {"predicateType": PROVENANCE, "predicate": {"a": 1}},
        {"predicateType": "https://example.com/x", "predicate": 1},
        {"predicateType": "https://example.com/y", "predicate": 2},
    )
    [platform] = (await read_image(image.store, image.root)).platforms
    found = [(attestation.path, attestation.content) for attestation in platform.attestations]
    assert found == [
        ("provenance.json", b'{"a": 1}'),
        ("attestation.json", b"1"),
        ("attestation-2.json", b"2"),
    ]
