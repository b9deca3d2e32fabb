"""Configs and manifests against the bytes, errors and panics of moby's and BuildKit's own functions."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.image import (
    History,
    ImageError,
    LayerChainError,
    LayerMetadata,
    Platform,
    Time,
    buildkit_image,
    digest_bytes,
    fitted_history,
    image,
    moby_config,
)
from exporter.image.config.exact import EXACT
from exporter.image.config.ordinary import ORDINARY
from tests.conformance.vectors import Vector, decode, encode, read_vectors

Answer = dict[str, Any]

HOST = Platform(os="linux", architecture="amd64")
"""Where the vectors were recorded."""

GROUPS = sorted({(vector["flavor"], vector["group"]) for vector in read_vectors("visible")})


@pytest.fixture(params=["ordinary first", "exact only"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "exact only":
        monkeypatch.setattr(image, "READERS", (EXACT,))


@pytest.mark.parametrize(("flavor", "group"), GROUPS)
@pytest.mark.usefixtures("reader")
def test_vectors(flavor: str, group: str) -> None:
    vectors = [v for v in read_vectors("visible") if (v["flavor"], v["group"]) == (flavor, group)]
    answers = {v["id"]: moby(v) if flavor == "moby" else buildkit(v) for v in vectors}
    assert answers == {v["id"]: expected(v) for v in vectors}


def test_all_vectors_are_read() -> None:
    assert len(read_vectors("visible")) == 1279


@pytest.mark.parametrize(
    "group", ["realistic", "chain-description", "inline-cache", "all-empty", "large-history"]
)
def test_ordinary_configs_pass_the_fast_reader(group: str) -> None:
    for vector in read_vectors("visible"):
        if vector["group"] == group and "config_b64" in vector["want"]:
            ORDINARY.read(decode(vector["config_b64"]) or b"")


def moby(vector: Vector) -> Answer:
    try:
        config = moby_config(
            decode(vector["config_b64"]) or b"",
            vector["diff_ids"],
            chain(vector),
            decode(vector["inline_cache_b64"]),
            host=HOST,
        )
    except LayerChainError as error:
        return {"panic": str(error)}
    except ImageError as error:
        return {"error": str(error)}
    return {
        "config_b64": encode(config),
        "config_digest": digest_bytes(config),
        "history": history(vector, len(vector["diff_ids"])),
    }


def buildkit(vector: Vector) -> Answer:
    try:
        made = buildkit_image(
            decode(vector["config_b64"]) or b"",
            vector["descriptors"],
            chain(vector),
            vector["oci_mediatypes"],
            vector["epoch"],
            decode(vector["base_config_b64"]),
            decode(vector["inline_cache_b64"]),
            vector["manifest_annotations"],
            host=HOST,
        )
    except LayerChainError as error:
        return {"panic": str(error)}
    except ImageError as error:
        return {"error": str(error)}
    return {
        "config_b64": encode(made.config),
        "config_digest": made.config_digest,
        "manifest_b64": encode(made.manifest),
        "manifest_digest": made.manifest_digest,
        "layers": made.layers or None,
        "history": history(vector, len(vector["descriptors"])),
    }


def expected(vector: Vector) -> Answer:
    want = dict(vector["want"])
    if "config_b64" in want:
        # Left out where a time could not be written before it was clamped.
        want.setdefault("history", UNWRITABLE)
    return want


UNWRITABLE = "a time that JSON has no text for"


def history(vector: Vector, layers: int) -> Any:
    entries = fitted_history(decode(vector["config_b64"]) or b"", layers, chain(vector))
    try:
        return None if entries is None else [entry_object(entry) for entry in entries]
    except ImageError:
        return UNWRITABLE


def entry_object(entry: History) -> dict[str, Any]:
    values = {
        "created": None if entry.created is None else entry.created.marshal(),
        "created_by": entry.created_by,
        "author": entry.author,
        "comment": entry.comment,
        "empty_layer": entry.empty_layer,
    }
    return {key: value for key, value in values.items() if value}


def chain(vector: Vector) -> list[LayerMetadata] | None:
    if vector["chain"] is None:
        return None
    return [
        LayerMetadata(item["description"], Time.parse(item["created_at"]) if item["created_at"] else None)
        for item in vector["chain"]
    ]
