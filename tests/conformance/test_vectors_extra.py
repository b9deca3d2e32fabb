"""Times, media types of layers and attestation configs against Go's own functions."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.image import ImageError, Time, digest_bytes
from exporter.image.config.patch import attestation_config
from exporter.image.descriptor import read_descriptors
from exporter.image.go import json as gojson
from exporter.image.keys import DIFF_ID
from exporter.image.media_types import convert_layer_type
from tests.conformance.vectors import Vector, decode, encode, read_vectors

ZERO_TIME = Time.from_unix(-62135596800)
"""What Go's variable holds after ``null``."""

MARSHAL_PREFIX = "json: error calling MarshalJSON for type *time.Time: "


def by_id(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", read_vectors(f"extra/{name}"), ids=lambda vector: vector["id"])


@by_id("time_json")
def test_time(vector: Vector) -> None:
    assert time_answer(decode(vector["json_b64"]) or b"") == vector["want"]


def time_answer(data: bytes) -> dict[str, Any]:
    try:
        time = gojson.decode(data, gojson.Timestamp(), "Time") or ZERO_TIME
    except ImageError as error:
        return {"error": str(error), "stage": "unmarshal"}
    answer = {
        "unix": time.unix,
        "nanosecond": time.nanosecond,
        "offset_seconds": time.offset_seconds,
        "has_location": time.has_location,
    }
    try:
        return answer | {"out": f'"{time.marshal()}"'}
    except ImageError as error:
        return answer | {"error": f"{MARSHAL_PREFIX}{error}", "stage": "marshal"}


@by_id("layer_media_types")
def test_layer_media_type(vector: Vector) -> None:
    converted = {
        "docker": convert_layer_type(vector["media_type"], oci=False),
        "oci": convert_layer_type(vector["media_type"], oci=True),
    }
    assert converted == vector["want"]


@by_id("attestations_config")
def test_attestation_config(vector: Vector) -> None:
    layers = read_descriptors(vector["descriptors"])
    diff_ids = [layer.annotations.get(DIFF_ID, "") for layer in layers]
    config = attestation_config(diff_ids)
    assert {"config_b64": encode(config), "config_digest": digest_bytes(config)} == vector["want"]
