from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.content.memory import MemoryStore
from exporter.image import Descriptor, digest_bytes
from exporter.verify import Checklist, ImageVerifier, Outcome, Report
from exporter.verify.documents import parse_document, path_of, schema_findings

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


def descriptor_of(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_bytes(data), "size": len(data)}


@pytest.mark.parametrize(
    ("parts", "text"), [([], ""), (["a"], "a"), (["a", 1, "b", "c", 0], "a[1].b.c[0]"), ([2], "[2]")]
)
def test_paths_in_findings(parts: list[str | int], text: str) -> None:
    assert path_of(parts) == text


def test_all_errors_are_reported() -> None:
    document = {"schemaVersion": "2", "layers": [{"mediaType": "x", "digest": 1}, {"digest": None}]}
    assert [(finding.where, finding.what) for finding in schema_findings(document, "manifest")] == [
        ("", "config is missing"),
        ("layers[0]", "size is missing"),
        ("layers[0].digest", "a number instead of digest"),
        ("layers[0].mediaType", '"x" is not a valid media type'),
        ("layers[1]", "mediaType, size are missing"),
        ("layers[1].digest", "null instead of digest"),
        ("schemaVersion", '"2" instead of 2'),
    ]


def test_long_values_are_not_quoted_whole() -> None:
    [finding] = schema_findings({"imageLayoutVersion": "x" * 10_000}, "layout")
    assert len(finding.what) < 150


@pytest.mark.parametrize(
    ("value", "is_fine"),
    [
        ("2024-01-02T03:04:05Z", True),
        ("2024-01-02T03:04:05.123456789+01:00", True),
        ("2024-01-02", False),
        ("2024-13-02T03:04:05Z", False),
        ("", False),
    ],
)
def test_times(value: str, is_fine: bool) -> None:
    config = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": []},
        "created": value,
    }
    assert (schema_findings(config, "config") == []) is is_fine


def test_nulls_are_left_out() -> None:
    document, findings = parse_document(b'{"layers":null,"a":{"b":null,"c":[null]},"config":null}')
    assert document == {"layers": [], "a": {"c": [None]}}
    [finding] = findings
    assert finding.what == "null instead of a value: layers, a.b, config"
    assert not finding.is_problem


KEYS = [
    "mediaType",
    "digest",
    "size",
    "config",
    "layers",
    "manifests",
    "subject",
    "platform",
    "os",
    "rootfs",
    "diff_ids",
    "history",
    "annotations",
    "schemaVersion",
    "type",
    "empty_layer",
    "data",
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


async def verify(index: dict[str, Any], *blobs: bytes) -> Report:
    checklist = Checklist(concurrency=1)
    verifier = ImageVerifier(MemoryStore(*blobs), checklist)
    await verifier.layout(b'{"imageLayoutVersion":"1.0.0"}', json.dumps(index).encode(), ())
    return await checklist.finish()


@given(json_values)
def test_any_index_gets_a_report(value: Any) -> None:
    report = asyncio.run(verify({"schemaVersion": 2, "manifests": value}))
    assert isinstance(report.is_ok, bool)


@given(json_values, st.sampled_from([MANIFEST, INDEX, CONFIG, ""]))
def test_any_document_gets_a_report(value: Any, media_type: str) -> None:
    data = json.dumps(value).encode()
    index = {"schemaVersion": 2, "manifests": [descriptor_of(data, media_type)]}
    asyncio.run(verify(index, data))


@given(json_values, json_values, json_values)
def test_any_config_and_layers_get_a_report(config: Any, rootfs: Any, history: Any) -> None:
    if isinstance(config, dict):
        config.update(rootfs={"type": "layers", "diff_ids": rootfs}, history=history)
    data = json.dumps(config).encode()
    layer = b"layer"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "config": descriptor_of(data, CONFIG),
            "layers": [descriptor_of(layer, "application/vnd.oci.image.layer.v1.tar")],
        }
    ).encode()
    index = {"schemaVersion": 2, "manifests": [descriptor_of(manifest, MANIFEST)]}
    report = asyncio.run(verify(index, data, layer, manifest))
    assert report.count(Outcome.PROBLEM) > 0


async def test_a_document_of_enormous_size_is_not_read_into_memory() -> None:
    class Endless(MemoryStore):
        read_bytes = 0

        async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> Any:
            while True:
                self.read_bytes += 1 << 20
                yield bytes(1 << 20)

    provider, checklist = Endless(), Checklist(concurrency=1)
    await ImageVerifier(provider, checklist).image(Descriptor(MANIFEST, digest_bytes(b""), 1), "a")
    report = await checklist.finish()
    assert [(result.check, result.outcome) for result in report.results] == [("size", Outcome.PROBLEM)]
    assert provider.read_bytes < 40 << 20
