"""Every defect of an image is found, and reported at its place."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exporter.image import digest_bytes
from exporter.verify import Outcome
from tests.unit.verify.layouts import ROOT, Step, Tampered, found, texts, verify

# One image of six layers: index.json names its manifest.
SINGLE = "run-chain"
# Two images with attestations: index.json names an index.
MULTI = "provenance-multi-max"
IMAGE = (*ROOT, "manifests", 0)
ATTESTATION = (*ROOT, "manifests", 2)

Where = list[tuple[str, str, str]]


@pytest.fixture
def tampered(tmp_path: Path) -> Callable[[str], Tampered]:
    return lambda name: Tampered(name, tmp_path)


@pytest.mark.parametrize("name", [SINGLE, MULTI])
async def test_untouched_images_have_no_findings(tampered: Callable[[str], Tampered], name: str) -> None:
    report = await verify(tampered(name).path)
    assert report.is_ok, texts(report)
    assert report.count(Outcome.NOTE) == report.count(Outcome.SKIPPED) == 0


@pytest.mark.parametrize(
    ("name", "steps", "where"),
    [
        (SINGLE, ROOT, ("manifest", "", "digest")),
        (SINGLE, (*ROOT, "config"), ("config", "config", "digest")),
        (SINGLE, (*ROOT, "layers", 0), ("layer", "layers[0]", "digest")),
        (SINGLE, (*ROOT, "layers", 5), ("layer", "layers[5]", "digest")),
        (MULTI, ROOT, ("index", "", "digest")),
        (MULTI, IMAGE, ("manifest", "manifests[0]", "digest")),
        (MULTI, (*IMAGE, "config"), ("config", "manifests[0].config", "digest")),
        (MULTI, ATTESTATION, ("attestation", "manifests[2]", "digest")),
        (MULTI, (*ATTESTATION, "layers", 0), ("statement", "manifests[2].layers[0]", "digest")),
    ],
)
@pytest.mark.parametrize("how", ["damaged", "cut", "missing"])
async def test_damaged_and_missing_blobs(
    tampered: Callable[[str], Tampered],
    name: str,
    steps: tuple[Step, ...],
    where: tuple[str, str, str],
    how: str,
) -> None:
    layout = tampered(name)
    path = layout.path_of(*steps)
    if how == "damaged":
        layout.damage(*steps, at=len(path.read_bytes()) // 2)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    report = await verify(layout.path)
    expected = [where]
    if how == "cut":
        expected.append((*where[:2], "size"))
    assert found(report) == expected
    text = {"damaged": "changed or damaged", "cut": "changed or damaged", "missing": "it is missing"}[how]
    assert text in texts(report)


@pytest.mark.parametrize(
    ("steps", "where"),
    [
        ((*ROOT, "config"), ("config", "config", "size")),
        ((*ROOT, "layers", 2), ("layer", "layers[2]", "size")),
    ],
)
async def test_a_wrong_size(
    tampered: Callable[[str], Tampered], steps: tuple[Step, ...], where: tuple[str, str, str]
) -> None:
    layout = tampered(SINGLE)
    *_, key = (step for step in steps if isinstance(step, str))

    def change(manifest: Any) -> None:
        descriptor = manifest[key] if key == "config" else manifest[key][steps[-1]]
        descriptor["size"] += 1

    layout.change_json(*ROOT, by=change)
    assert found(await verify(layout.path)) == [where]


async def test_a_wrong_size_in_the_index(tampered: Callable[[str], Tampered]) -> None:
    layout = tampered(SINGLE)
    layout.change_index(lambda index: index["manifests"][0].update(size=1))
    assert found(await verify(layout.path)) == [("manifest", "", "size")]


def set_diff_id(position: int, value: str) -> Callable[[Any], None]:
    return lambda config: config["rootfs"]["diff_ids"].__setitem__(position, value)


CONFIG_CHANGES: list[tuple[Callable[[Any], object], Where, str]] = [
    (
        set_diff_id(1, digest_bytes(b"another")),
        [("layer", "layers[1]", "diff ID")],
        "its diff ID is",
    ),
    (
        set_diff_id(1, "sha256:1"),
        [("config", "config", "schema")],
        'diff_ids[1]: "sha256:1" is not a valid digest',
    ),
    (
        lambda config: config["rootfs"]["diff_ids"].pop(),
        [("config", "config", "layers"), ("layer", "layers[5]", "diff ID")],
        "5 diff IDs for 6 layers",
    ),
    (
        lambda config: config["rootfs"]["diff_ids"].append(digest_bytes(b"one more")),
        [("config", "config", "layers")],
        "7 diff IDs for 6 layers",
    ),
    (lambda config: config["history"].pop(), [("config", "config", "history")], "layer for 6 layers"),
    (
        lambda config: config["history"].append({"created_by": "one more"}),
        [("config", "config", "history")],
        "7 entries with a layer for 6 layers",
    ),
    (
        lambda config: config["history"][0].update(empty_layer=True),
        [("config", "config", "history")],
        "5 entries with a layer for 6 layers",
    ),
    (lambda config: config.pop("os"), [("config", "config", "schema")], "os is missing"),
    (lambda config: config.update(architecture=""), [("config", "config", "schema")], "it is empty"),
    (
        lambda config: config["rootfs"].update(type="tree"),
        [("config", "config", "schema")],
        'rootfs.type: "tree" instead of "layers"',
    ),
    (
        lambda config: config.update(created="yesterday"),
        [("config", "config", "schema")],
        'created: "yesterday" is not a valid RFC 3339 time',
    ),
    (
        lambda config: config["config"].update(Env="A=1"),
        [("config", "config", "schema")],
        "config.Env: a string instead of array",
    ),
]


@pytest.mark.parametrize(("change", "where", "text"), CONFIG_CHANGES)
async def test_a_config_that_does_not_fit(
    tampered: Callable[[str], Tampered], change: Callable[[Any], object], where: Where, text: str
) -> None:
    layout = tampered(SINGLE)
    layout.change_json(*ROOT, "config", by=change)
    report = await verify(layout.path)
    assert found(report) == where
    assert text in texts(report)


async def test_a_missing_history_is_not_a_problem(tampered: Callable[[str], Tampered]) -> None:
    layout = tampered(SINGLE)
    layout.change_json(*ROOT, "config", by=lambda config: config.pop("history"))
    assert (await verify(layout.path)).is_ok


LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST_CHANGES: list[tuple[Callable[[Any], object], Where, str]] = [
    (
        lambda manifest: manifest["layers"].pop(),
        [("config", "config", "layers"), ("config", "config", "history")],
        "6 diff IDs for 5 layers",
    ),
    (
        lambda manifest: manifest["layers"].reverse(),
        [("layer", f"layers[{position}]", "diff ID") for position in range(6)],
        "its diff ID is",
    ),
    (
        lambda manifest: manifest["layers"][0].update(mediaType=f"{LAYER}+zstd"),
        [("layer", "layers[0]", "media type")],
        "its bytes are gzip",
    ),
    (
        lambda manifest: manifest["layers"][0].update(mediaType=LAYER),
        [("layer", "layers[0]", "media type")],
        "its bytes are gzip",
    ),
    (
        lambda manifest: manifest["layers"][0].update(mediaType="application/zip"),
        [("layer", "layers[0]", "media type")],
        "application/zip is not a media type of layers",
    ),
    (
        lambda manifest: manifest.update(mediaType="application/vnd.oci.image.index.v1+json"),
        [("manifest", "", "media type")],
        "its mediaType is application/vnd.oci.image.index.v1+json",
    ),
    (
        lambda manifest: manifest.update(schemaVersion=1),
        [("manifest", "", "schema")],
        "schemaVersion: 1 instead of 2",
    ),
    (
        lambda manifest: manifest["layers"][3].pop("size"),
        [("manifest", "", "schema")],
        "layers[3]: size is missing",
    ),
    (
        lambda manifest: manifest["layers"][3].update(digest="sha256:beef"),
        [("manifest", "", "schema")],
        'layers[3].digest: "sha256:beef" is not a valid digest',
    ),
    (
        lambda manifest: manifest["layers"][3].update(size=-1),
        [("manifest", "", "schema")],
        "layers[3].size: -1 is out of range",
    ),
    (lambda manifest: manifest.pop("config"), [("manifest", "", "schema")], "config is missing"),
    (
        lambda manifest: manifest.update(annotations={"a": 1}),
        [("manifest", "", "schema")],
        "annotations.a: a number instead of string",
    ),
]


@pytest.mark.parametrize(("change", "where", "text"), MANIFEST_CHANGES)
async def test_a_manifest_that_does_not_fit(
    tampered: Callable[[str], Tampered], change: Callable[[Any], object], where: Where, text: str
) -> None:
    layout = tampered(SINGLE)
    layout.change_json(*ROOT, by=change)
    report = await verify(layout.path)
    assert found(report) == where
    assert text in texts(report)


INDEX_CHANGES: list[tuple[Callable[[Any], object], Where, str]] = [
    (
        lambda index: index["manifests"][0].update(mediaType="application/vnd.oci.image.index.v1+json"),
        # Whose attestations are about something of another type now.
        [("index", "manifests[0]", "media type"), ("attestation", "manifests[2]", "subject")],
        "its mediaType is application/vnd.oci.image.manifest.v1+json",
    ),
    (
        lambda index: index["manifests"][0].update(mediaType="application/json"),
        # Whose attestations are about something of another type now.
        [("blob", "manifests[0]", "media type"), ("attestation", "manifests[2]", "subject")],
        "its mediaType is application/vnd.oci.image.manifest.v1+json",
    ),
    (
        lambda index: index["manifests"][0]["platform"].pop("os"),
        [("index", "", "schema")],
        "manifests[0].platform: os is missing",
    ),
    (
        lambda index: index["manifests"][2]["annotations"].update(
            {"vnd.docker.reference.digest": digest_bytes(b"nobody")}
        ),
        [("attestation", "manifests[2]", "reference")],
        "which is not an image in this index",
    ),
    (
        lambda index: index["manifests"][2]["annotations"].pop("vnd.docker.reference.digest"),
        [("attestation", "manifests[2]", "reference")],
        "it does not say which image it refers to",
    ),
    (
        lambda index: index["manifests"].pop(0),
        [("attestation", "manifests[1]", "reference")],
        "which is not an image in this index",
    ),
]


@pytest.mark.parametrize(("change", "where", "text"), INDEX_CHANGES)
async def test_an_index_that_does_not_fit(
    tampered: Callable[[str], Tampered], change: Callable[[Any], object], where: Where, text: str
) -> None:
    layout = tampered(MULTI)
    layout.change_json(*ROOT, by=change)
    report = await verify(layout.path)
    assert found(report) == where
    assert text in texts(report)


async def test_the_platform_of_another_image(tampered: Callable[[str], Tampered]) -> None:
    layout = tampered(MULTI)
    platform = {"os": "linux", "architecture": "s390x"}
    layout.change_json(*ROOT, by=lambda index: index["manifests"][0].update(platform=platform))
    report = await verify(layout.path)
    assert found(report, Outcome.NOTE) == [("config", "manifests[0].config", "platform")]
    assert "the index lists it for linux/s390x, but it is for linux/amd64" in texts(report)


async def test_two_images_for_one_platform(tampered: Callable[[str], Tampered]) -> None:
    layout = tampered(MULTI)
    layout.change_json(*ROOT, by=lambda index: index["manifests"].append(index["manifests"][0]))
    report = await verify(layout.path)
    assert found(report, Outcome.NOTE) == [("index", "", "platforms")]
    assert "several images for linux/amd64" in texts(report)


async def test_attestations_about_another_image(tampered: Callable[[str], Tampered]) -> None:
    layout = tampered(MULTI)
    other = layout.descriptor(*ROOT, "manifests", 1)
    layout.change_json(*ATTESTATION, by=lambda manifest: manifest["subject"].update(digest=other["digest"]))
    assert found(await verify(layout.path)) == [("attestation", "manifests[2]", "subject")]


async def test_a_statement_of_another_type(tampered: Callable[[str], Tampered]) -> None:
    layout = tampered(MULTI)
    layout.change_json(
        *ATTESTATION, "layers", 0, by=lambda statement: statement.update(predicateType="https://example.com/")
    )
    report = await verify(layout.path)
    assert found(report) == [("statement", "manifests[2].layers[0]", "predicate type")]


async def test_something_that_is_not_a_statement(tampered: Callable[[str], Tampered]) -> None:
    layout = tampered(MULTI)
    layout.change(*ATTESTATION, "layers", 0, by=lambda _: b'{"_type":"x"}')
    report = await verify(layout.path)
    assert found(report) == [("statement", "manifests[2].layers[0]", "schema")]
    assert '_type: "x" is not one of "https://in-toto.io/Statement/v0.1"' in texts(report)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b"[]", "it is a list, not an object"),
        (b"null", "it is null, not an object"),
        (b'{"a":NaN}', "NaN is not a JSON value"),
        (b"\xff", "it is not JSON"),
        (b"[" * 100_000, "it is nested too deeply"),
    ],
)
@pytest.mark.parametrize(
    ("steps", "where"),
    [(ROOT, ("manifest", "", "schema")), ((*ROOT, "config"), ("config", "config", "schema"))],
)
async def test_invalid_documents_are_reported(
    tampered: Callable[[str], Tampered],
    steps: tuple[Step, ...],
    where: tuple[str, str, str],
    data: bytes,
    text: str,
) -> None:
    layout = tampered(SINGLE)
    layout.change(*steps, by=lambda _: data)
    report = await verify(layout.path)
    assert found(report) == [where]
    assert text in texts(report)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (gzip.compress(b"no tar at all" * 100), "it is not a tar archive"),
        (gzip.compress(b"")[:10], "the gzip stream is truncated"),
        (b"anything", "its bytes are neither gzip, zstd nor tar"),
    ],
)
async def test_layers_that_cannot_be_unpacked(
    tampered: Callable[[str], Tampered], data: bytes, text: str
) -> None:
    layout = tampered(SINGLE)
    layout.change(*ROOT, "layers", 0, by=lambda _: data)
    report = await verify(layout.path)
    assert found(report)[0][:2] == ("layer", "layers[0]")
    assert text in texts(report)


async def test_a_nondistributable_layer_may_be_missing(
    tampered: Callable[[str], Tampered],
) -> None:
    layout = tampered("foreign-layer")
    nondistributable = [
        position
        for position, layer in enumerate(json.loads(layout.path_of(*ROOT).read_bytes())["layers"])
        if "nondistributable" in layer["mediaType"]
    ]
    for position in nondistributable:
        layout.path_of(*ROOT, "layers", position).unlink(missing_ok=True)
    report = await verify(layout.path)
    assert report.is_ok
    assert found(report, Outcome.SKIPPED) == [
        ("layer", f"layers[{position}]", "digest") for position in nondistributable
    ]


async def test_a_duplicate_key_is_a_note(tampered: Callable[[str], Tampered]) -> None:
    layout = tampered(SINGLE)
    layout.change(*ROOT, "config", by=lambda data: data.replace(b"{", b'{"os":"plan9",', 1))
    report = await verify(layout.path)
    assert found(report, Outcome.NOTE) == [("config", "config", "schema")]
    assert 'duplicate key "os"' in texts(report)


async def test_embedded_data_must_be_the_blob(tampered: Callable[[str], Tampered]) -> None:
    layout = tampered(MULTI)
    wrong = base64.b64encode(b"[]").decode()
    layout.change_json(*ATTESTATION, by=lambda manifest: manifest["config"].update(data=wrong))
    assert found(await verify(layout.path)) == [("blob", "manifests[2].config", "data")]


async def test_nested_indexes_are_limited(tampered: Callable[[str], Tampered]) -> None:
    layout = tampered(SINGLE)

    def nest(index: Any) -> None:
        for _ in range(20):
            data = json.dumps({"schemaVersion": 2, "manifests": index["manifests"]}).encode()
            digest = digest_bytes(data)
            layout.blob(digest).write_bytes(data)
            media_type = "application/vnd.oci.image.index.v1+json"
            index["manifests"] = [{"mediaType": media_type, "digest": digest, "size": len(data)}]

    layout.change_index(nest)
    report = await verify(layout.path)
    assert [check for _, _, check in found(report)] == ["depth"]


async def test_docker_manifests_must_have_a_media_type(tampered: Callable[[str], Tampered]) -> None:
    layout = tampered("docker-types")
    layout.change_json(*ROOT, by=lambda manifest: manifest.pop("mediaType"))
    report = await verify(layout.path)
    assert found(report) == [("manifest", "", "media type")]
    assert "it has no mediaType" in texts(report)


async def test_a_mixture_of_families_is_a_note(tampered: Callable[[str], Tampered]) -> None:
    layout = tampered(SINGLE)
    docker = "application/vnd.docker.container.image.v1+json"
    layout.change_json(*ROOT, by=lambda manifest: manifest["config"].update(mediaType=docker))
    report = await verify(layout.path)
    assert report.is_ok
    assert found(report, Outcome.NOTE) == [("config", "config", "media type")]
