from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import InvalidArgumentError
from exporter.image import CompressionConfig, Descriptor, Platform, Time
from exporter.image.options.compression import CompressionType
from exporter.pb.buildkit.exporter.v1 import exporter_pb2
from exporter.remotes.messages.layers import (
    compression_message,
    compression_of,
    descriptor_message,
    descriptor_of,
    layer_message,
    layer_of,
)
from exporter.source.types import Layer

DIGEST = "sha256:" + "a" * 64
DIFF_ID = "containerd.io/uncompressed"

text = st.text(st.characters(exclude_categories=["Cs"]))
times = st.builds(Time.from_unix, st.integers(-62135596800, 253402300799), st.integers(0, 999_999_999))
digests = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
descriptors = st.builds(
    Descriptor,
    media_type=text.filter(bool),
    digest=digests,
    size=st.integers(10, 2**63 - 1),
    urls=st.lists(text).map(tuple),
    annotations=st.dictionaries(text.filter(lambda key: key != DIFF_ID), text),
    platform=st.none() | st.builds(Platform, architecture=text, os=text, variant=text, os_version=text),
    artifact_type=text,
)


@given(st.builds(Layer, id=text, description=text, created_at=st.none() | times))
def test_layers_survive_the_wire(layer: Layer) -> None:
    message = exporter_pb2.Layer.FromString(layer_message(layer).SerializeToString())
    assert layer_of(message, "x") == layer


@given(descriptors)
def test_descriptors_survive_the_wire(descriptor: Descriptor) -> None:
    message = exporter_pb2.Descriptor.FromString(descriptor_message(descriptor).SerializeToString())
    assert descriptor_of(message, "x") == descriptor


def test_embedded_blobs_and_features_survive_the_wire() -> None:
    platform = Platform(architecture="amd64", os="windows", os_version="10.0", os_features=("win32k",))
    descriptor = Descriptor("m", DIGEST, 3, data=b"abc", platform=platform, annotations={DIFF_ID: DIGEST})
    message = exporter_pb2.Descriptor.FromString(descriptor_message(descriptor).SerializeToString())
    assert descriptor_of(message, "x") == descriptor


@given(
    st.builds(
        CompressionConfig,
        st.sampled_from(list(CompressionType)),
        st.booleans(),
        st.none() | st.integers(-(2**31), 2**31 - 1),
    )
)
def test_compression_survives_the_wire(config: CompressionConfig) -> None:
    message = exporter_pb2.Compression.FromString(compression_message(config).SerializeToString())
    assert compression_of(message, "x") == config


def test_no_compression_is_the_default_one() -> None:
    assert compression_of(exporter_pb2.Compression(), "x") == CompressionConfig()


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"media_type": ""}, "d.media_type"),
        ({"digest": ""}, "d.digest"),
        ({"digest": "sha256:../../x"}, "d.digest"),
        ({"size": -1}, "d.size"),
        ({"data": b"ab"}, "d.data"),
        ({"annotations": {DIFF_ID: "?"}}, f"d.annotations[{DIFF_ID}]"),
    ],
)
def test_malformed_descriptors_are_refused_with_the_path_of_the_field(
    fields: dict[str, object], path: str
) -> None:
    message = exporter_pb2.Descriptor(**{"media_type": "m", "digest": DIGEST, "size": 3, **fields})  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError) as caught:
        descriptor_of(message, "d")
    assert caught.value.field == path


@pytest.mark.parametrize("nanos", [-1, 1_000_000_000])
def test_malformed_times_are_refused(nanos: int) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        layer_of(exporter_pb2.Layer(created_at=Timestamp(nanos=nanos)), "chain[0]")
    assert caught.value.field == "chain[0].created_at"


def test_unknown_compressions_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="unsupported compression type lzma") as caught:
        compression_of(exporter_pb2.Compression(type="lzma"), "compression")
    assert caught.value.field == "compression.type"
