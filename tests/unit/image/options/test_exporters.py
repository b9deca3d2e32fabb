from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.image.names import ImageNames
from exporter.image.options.attributes import AttributeValueError
from exporter.image.options.exporters import (
    ArchiveExporterOptions,
    ImageExporterOptions,
    MobyExporterOptions,
)

DIGEST = "sha256:" + "0" * 64


def test_image_defaults() -> None:
    options = ImageExporterOptions.resolve({})
    assert options.store
    assert options.commit.force_inline_attestations
    assert not (options.push or options.push_by_digest or options.insecure or options.unpack)


def test_unknown_attributes_become_metadata() -> None:
    attrs = {"containerimage.config": "{}", "compression": "zstd", "annotation.a": "1", "push": ""}
    assert ImageExporterOptions.resolve(attrs).meta == {
        "containerimage.config": b"{}",
        "compression": b"zstd",
    }
    assert MobyExporterOptions.resolve(attrs).meta == {key: value.encode() for key, value in attrs.items()}


@pytest.mark.parametrize(
    ("attrs", "names"),
    [
        ({}, ImageNames("")),
        ({"name": "a,b"}, ImageNames("a,b")),
        ({"name": "a", "name-canonical": ""}, ImageNames("a", canonical=True)),
        ({"name": "*"}, ImageNames("frontend")),
        ({"dangling-name-prefix": "p"}, ImageNames(f"p@{DIGEST}")),
        ({"dangling-name-prefix": "p", "name-canonical": "1"}, ImageNames(f"p@{DIGEST}")),
        (
            {"name": "a", "dangling-name-prefix": "p", "name-canonical": "1"},
            ImageNames(f"a,p@{DIGEST}", canonical=True),
        ),
        ({"name": "a", "dangling-name-prefix": "p", "danging-name-empty-only": ""}, ImageNames("a")),
        ({"dangling-name-prefix": "p", "danging-name-empty-only": ""}, ImageNames(f"p@{DIGEST}")),
        ({"name": "*", "dangling-name-prefix": "p", "danging-name-empty-only": ""}, ImageNames("frontend")),
    ],
)
def test_names_of_an_image(attrs: dict[str, str], names: ImageNames) -> None:
    options = ImageExporterOptions.resolve(attrs)
    assert options.names({"image.name": b"frontend"}, DIGEST) == names


@pytest.mark.parametrize(
    ("attrs", "tar"), [({}, True), ({"tar": ""}, True), ({"tar": "1"}, True), ({"tar": "F"}, False)]
)
def test_archive(attrs: dict[str, str], tar: bool) -> None:
    options = ArchiveExporterOptions.resolve({**attrs, "x": "y", "name": "not looked at yet!"})
    assert options.tar is tar
    assert options.meta == {"x": b"y"}
    assert not options.commit.force_inline_attestations


def test_bad_tar() -> None:
    with pytest.raises(AttributeValueError) as error:
        ArchiveExporterOptions.resolve({"tar": "x"})
    assert (
        str(error.value) == 'non-bool value specified for tar: strconv.ParseBool: parsing "x": invalid syntax'
    )


def test_moby_checks_nothing_but_names() -> None:
    options = MobyExporterOptions.resolve({"name": "a,b:1", "push": "maybe", "compression": "bogus"})
    assert options.image_name == "docker.io/library/a,docker.io/library/b:1"
    assert MobyExporterOptions.resolve({}).image_name == ""
    with pytest.raises(AttributeValueError, match="^invalid reference format$") as error:
        MobyExporterOptions.resolve({"name": ""})
    assert error.value.attribute == "name"


ATTRS = st.dictionaries(
    st.sampled_from(["name", "push", "store", "tar", "dangling-name-prefix", "name-canonical"]) | st.text(),
    st.sampled_from(["", "true", "x", "*"]) | st.text(st.characters(codec=None, exclude_categories=())),
)


@given(ATTRS)
def test_any_attributes_are_read_or_refused(attrs: dict[str, str]) -> None:
    for resolve in (
        ImageExporterOptions.resolve,
        ArchiveExporterOptions.resolve,
        MobyExporterOptions.resolve,
    ):
        try:
            resolve(attrs)
        except AttributeValueError as error:
            assert error.attribute in attrs
