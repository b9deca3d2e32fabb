"""Descriptors: to JSON and back."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from exporter.image import Descriptor, ImageError, Platform
from exporter.image.descriptor import read_descriptors

FULL = Descriptor(
    media_type="m",
    digest="sha256:a",
    size=3,
    urls=("u", "<"),
    annotations={"b": "1", "a": "2"},
    data=b"\x00\xff",
    platform=Platform(architecture="arm", os="linux", os_version="1", os_features=("f",), variant="v7"),
    artifact_type="t",
)
FULL_TEXT = (
    b'{"mediaType":"m","digest":"sha256:a","size":3,"urls":["u","\\u003c"],"annotations":{"a":"2","b":"1"},'
    b'"data":"AP8=","platform":{"architecture":"arm","os":"linux","os.version":"1","os.features":["f"],"variant":"v7"},'
    b'"artifactType":"t"}'
)


def test_full() -> None:
    assert FULL.marshal() == FULL_TEXT
    assert list(FULL.to_dict()["annotations"]) == ["a", "b"]
    assert Descriptor.from_dict(FULL.to_dict()) == FULL


def test_empty() -> None:
    empty = Descriptor("", "", 0)
    assert empty.marshal() == b'{"mediaType":"","digest":"","size":0}'
    assert Descriptor.from_dict({}) == empty
    assert replace(empty, platform=Platform()).to_dict()["platform"] == {"architecture": "", "os": ""}


def test_null_and_unknown_members_are_ignored() -> None:
    value = {
        "size": None,
        "urls": None,
        "annotations": {"a": None, "b": "c"},
        "platform": {"os": None},
        "other": 5,
    }
    assert Descriptor.from_dict(value) == Descriptor("", "", 0, annotations={"b": "c"}, platform=Platform())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"size": "1"}, r"invalid descriptor: Expected `int`, got `str` - at `\$\[0\]\.size`"),
        ({"size": 1.5}, r"at `\$\[0\]\.size`"),
        ({"size": True}, r"at `\$\[0\]\.size`"),
        ({"mediaType": 5}, r"at `\$\[0\]\.mediaType`"),
        ({"urls": "u"}, r"at `\$\[0\]\.urls`"),
        ({"annotations": {"a": 5}}, r"at `\$\[0\]\.annotations"),
        ({"data": "?"}, r"at `\$\[0\]\.data`"),
        ({"platform": []}, r"at `\$\[0\]\.platform`"),
        (["a"], r"Expected `object`, got `array` - at `\$\[0\]`"),
        (None, r"Expected `object`, got `null`"),
    ],
)
def test_refused(value: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        Descriptor.from_dict(value)


def test_the_faulty_one_of_many_is_named() -> None:
    with pytest.raises(ImageError, match=r"\$\[1\]\.digest"):
        read_descriptors([{"digest": "a"}, {"digest": 1}])


def test_descriptors_are_values() -> None:
    assert len({FULL, replace(FULL), replace(FULL, size=4)}) == 2
    with pytest.raises(FrozenInstanceError):
        FULL.size = 5  # type: ignore[misc]
