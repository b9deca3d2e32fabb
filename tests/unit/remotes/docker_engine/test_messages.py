"""What an engine says while it loads an image."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import (
    FailedPreconditionError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
)
from exporter.remotes.docker_engine.messages import LayerProgress, Loaded, LoadMessages, Pushed, PushMessages

STREAM = (
    b'{"status":"Loading layer","progressDetail":{"current":1024,"total":3009},"id":"fd30f3d3c692"}\r\n'
    b'{"status":"Loading layer","progressDetail":{"current":3009},"id":"fd30f3d3c692"}\r\n'
    b"\r\n"
    b'{"status":"The image already exists"}\n'
    b'{"stream":"Loaded image: example.com:5000/app:v1\\n"}\r\n'
    b'{"stream":"Loaded image ID: sha256:00ea\\n"}'
)
MESSAGES = [
    LayerProgress("fd30f3d3c692", 1024, 3009),
    LayerProgress("fd30f3d3c692", 3009, 0),
    Loaded("example.com:5000/app:v1"),
    Loaded("sha256:00ea"),
]


def read(*pieces: bytes) -> list[LayerProgress | Loaded]:
    messages = LoadMessages("unix:///d.sock")
    found = [message for piece in pieces for message in messages.feed(piece)]
    return found + messages.finish()


@given(st.lists(st.integers(0, len(STREAM)), max_size=8).map(sorted))
def test_pieces_of_any_size(cuts: list[int]) -> None:
    bounds = [0, *cuts, len(STREAM)]
    pieces = [STREAM[begin:end] for begin, end in pairwise(bounds)]
    assert read(*pieces) == MESSAGES


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"errorDetail": {"message": "no such thing"}, "error": "no such thing"}, FailedPreconditionError),
        ({"error": "no such thing"}, FailedPreconditionError),
        (
            {"errorDetail": {"code": 5, "message": "no such thing: no space left on device"}},
            ResourceExhaustedError,
        ),
    ],
)
def test_failures(message: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"Docker engine unix:///d\.sock did not load the image: no such thing"):
        read(json.dumps(message).encode() + b"\n")


@given(st.binary(max_size=100))
def test_any_bytes_can_be_read(data: bytes) -> None:
    try:
        read(data)
    except (UnavailableError, FailedPreconditionError, ResourceExhaustedError) as error:
        assert "unix:///d.sock" in str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["stream", "error", "errorDetail", "message", "id", "progressDetail"]), inner
        )
    ),
    max_leaves=6,
)


@given(JSON)
def test_any_json_can_be_read(value: object) -> None:
    test_any_bytes_can_be_read.hypothesis.inner_test(json.dumps(value).encode())  # type: ignore[attr-defined]


PUSHED = (
    b'{"status":"The push refers to repository [127.0.0.1:5000/app]"}\r\n'
    b'{"status":"Preparing","progressDetail":{},"id":"fd30f3d3c692"}\r\n'
    b'{"status":"Pushing","progressDetail":{"current":512,"total":3009},"id":"fd30f3d3c692"}\r\n'
    b'{"status":"v1: digest: sha256:00ea size: 528"}\r\n'
    b'{"progressDetail":{},"aux":{"Tag":"v1","Digest":"sha256:00ea","Size":528}}\r\n'
)


def test_a_push() -> None:
    messages = PushMessages("e")
    assert messages.feed(PUSHED) + messages.finish() == [
        LayerProgress("fd30f3d3c692", 0, 0),
        LayerProgress("fd30f3d3c692", 512, 3009),
        Pushed("sha256:00ea"),
    ]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("unauthorized: authentication required", PermissionDeniedError),
        ("denied: requested access to the resource is denied", PermissionDeniedError),
        ("no basic auth credentials", PermissionDeniedError),
        ("dial tcp 127.0.0.1:1: connect: connection refused", UnavailableError),
    ],
)
def test_a_push_that_fails(text: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=f"Docker engine e did not push the image: {text}"):
        PushMessages("e").feed(b'{"errorDetail":{"message":"%s"},"error":"x"}\n' % text.encode())
