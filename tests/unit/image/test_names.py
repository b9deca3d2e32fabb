from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ImageError
from exporter.image.names import (
    ImageNames,
    normalized_names,
    parse_names,
    resolve_image_name,
    sanitize_repo_and_tags,
)
from exporter.image.options.attributes import AttributeValueError

DIGEST = "sha256:" + "0" * 64


def test_names_of_an_archive() -> None:
    assert normalized_names("") == ()
    assert normalized_names(f"app,user/app:1,r.io/a@{DIGEST}") == (
        "docker.io/library/app:latest",
        "docker.io/user/app:1",
        f"r.io/a@{DIGEST}",
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("a,,b", "failed to parse : invalid reference format"),
        ("a:b:c", "failed to parse a:b:c: invalid reference format"),
        (
            "UPPER CASE",
            "failed to parse UPPER CASE: "
            "invalid reference format: repository name (library/UPPER CASE) must be lowercase",
        ),
    ],
)
def test_bad_names_of_an_archive(names: str, message: str) -> None:
    with pytest.raises(AttributeValueError) as error:
        normalized_names(names)
    assert str(error.value) == message
    assert error.value.attribute == "name"
    assert error.value.field == "attrs[name]"


def test_names_of_a_moby_image_are_neither_tagged_nor_made_unique() -> None:
    assert [str(name) for name in parse_names("a,a:1,a")] == [
        "docker.io/library/a",
        "docker.io/library/a:1",
        "docker.io/library/a",
    ]
    for names in ("", "a,", " a"):
        with pytest.raises(AttributeValueError, match="^invalid reference format$"):
            parse_names(names)


def test_the_frontend_names_the_image_if_asked_to() -> None:
    metadata = {"image.name": b"from/frontend,b\xff"}
    assert resolve_image_name("*", metadata) == "from/frontend,b\ufffd"
    assert resolve_image_name("*", {}) == "*"
    assert resolve_image_name("a", metadata) == "a"
    assert resolve_image_name("a,*", metadata) == "a,*"


def test_tags_of_a_build() -> None:
    names = sanitize_repo_and_tags(["", "a", "docker.io/library/a:latest", "b:1", "a"])
    assert [str(name) for name in names] == ["docker.io/library/a:latest", "docker.io/library/b:1"]
    with pytest.raises(ImageError, match="^build tag cannot contain a digest$"):
        sanitize_repo_and_tags(["a", f"b@{DIGEST}", ":"])


def test_names_in_the_store() -> None:
    assert ImageNames("").targets == ()
    names = ImageNames("a,b@x", canonical=True)
    assert names.targets == ("a", "b@x")
    assert names.stored("a", DIGEST) == ("a", f"a@{DIGEST}")
    assert names.stored("b@x", DIGEST) == ("b@x",)
    assert ImageNames("a").stored("a", DIGEST) == ("a",)


@given(st.text(st.characters(codec=None)))
def test_any_list_is_read_or_refused(names: str) -> None:
    for read in (normalized_names, parse_names):
        try:
            assert len(read(names)) == (names.count(",") + 1 if names else 0)
        except AttributeValueError as error:
            assert error.attribute == "name"
