from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ImageError
from exporter.image.annotations import AnnotationGroups, AnnotationKey, Annotations, AnnotationType
from exporter.image.keys import MetadataValueError
from exporter.image.options.attributes import AttributeValueError
from exporter.image.platforms.platform import Platform

AMD64 = Platform(os="linux", architecture="amd64")
ARM64 = Platform(os="linux", architecture="arm64")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("annotation.a", AnnotationKey(AnnotationType.MANIFEST, "a")),
        ("annotation-index.a.b", AnnotationKey(AnnotationType.INDEX, "a.b")),
        ("annotation[x86_64].a", AnnotationKey(AnnotationType.MANIFEST, "a", AMD64)),
        (
            "annotation-manifest-descriptor[linux/arm64].[].x",
            AnnotationKey(AnnotationType.MANIFEST_DESCRIPTOR, "[].x", ARM64),
        ),
        ("annotation.a\v\x00\u3000", AnnotationKey(AnnotationType.MANIFEST, "a\v\x00\u3000")),
        ("annotation.a\n", None),
        ("annotation.", None),
        ("Annotation.a", None),
        ("annotation[windows(10.0)/amd64].a", None),
    ],
)
def test_keys(text: str, key: AnnotationKey | None) -> None:
    assert AnnotationKey.parse(text) == key


def test_keys_are_written_in_their_longest_form() -> None:
    assert str(AnnotationKey(AnnotationType.MANIFEST, "a", AMD64)) == "annotation-manifest[linux/amd64].a"
    assert str(AnnotationKey(AnnotationType.INDEX, "a", AMD64)) == "annotation-index.a"


def test_spellings_of_a_platform_share_a_group() -> None:
    groups, rest = AnnotationGroups.from_attributes(
        {
            "annotation[x86_64].a": "1",
            "annotation[linux/amd64].b": "2",
            "annotation[linux/amd64/v1].c": "3",
            "name": "n",
        }
    )
    assert groups.groups == {"linux/amd64": Annotations(manifest={"a": "1", "b": "2", "c": "3"})}
    assert rest == {"name": "n"}


def test_of_two_spellings_the_name_decides_and_not_the_order() -> None:
    attrs = {"annotation.a": "short", "annotation-manifest.a": "long"}
    for given_attrs in (attrs, dict(reversed(attrs.items()))):
        groups, _ = AnnotationGroups.from_attributes(given_attrs)
        assert groups.platform(None).manifest == {"a": "short"}


def test_the_view_of_one_platform() -> None:
    groups, _ = AnnotationGroups.from_attributes(
        {
            "annotation.a": "all",
            "annotation.b": "all",
            "annotation[linux/amd64].a": "amd64",
            "annotation-manifest-descriptor[linux/amd64].d": "amd64",
            "annotation[linux/arm64].c": "arm64",
            "annotation-index[linux/arm64].i": "index",
            "annotation-index-descriptor.i": "descriptor",
        }
    )
    index = Annotations(index={"i": "index"}, index_descriptor={"i": "descriptor"})
    assert groups.platform(None) == index.merge(Annotations(manifest={"a": "all", "b": "all"}))
    assert groups.platform(AMD64) == index.merge(
        Annotations(manifest={"a": "amd64", "b": "all"}, manifest_descriptor={"d": "amd64"})
    )
    assert groups.platform(Platform(os="linux", architecture="s390x")) == groups.platform(None)


def test_the_frontends_annotations_override_those_of_attributes() -> None:
    given_by_attributes, _ = AnnotationGroups.from_attributes({"annotation.a": "1", "annotation.b": "1"})
    by_frontend = AnnotationGroups.from_metadata(
        {"annotation.b": b"2", "annotation[linux/arm64].c": b"\xff", "containerimage.config": b"{}"}
    )
    merged = given_by_attributes.merge(by_frontend)
    assert merged.platform(ARM64).manifest == {"a": "1", "b": "2", "c": "\ufffd"}
    assert given_by_attributes.platform(None).manifest == {"a": "1", "b": "1"}


def test_a_bad_key_is_named() -> None:
    with pytest.raises(AttributeValueError, match="^unrecognized annotation type bogus$") as attribute_error:
        AnnotationGroups.from_attributes({"annotation-bogus.a": "", "annotation-zzz.a": ""})
    assert attribute_error.value.field == "attrs[annotation-bogus.a]"
    with pytest.raises(MetadataValueError, match="cannot parse platform specifier") as metadata_error:
        AnnotationGroups.from_metadata({"annotation[a/b/c/d].a": b""})
    assert metadata_error.value.field == "source.metadata[annotation[a/b/c/d].a]"


@pytest.mark.parametrize(
    ("attrs", "oci_types", "message"),
    [
        ({"annotation.a": ""}, False, None),
        ({"annotation-index.a": ""}, True, None),
        ({"annotation-index.a": ""}, False, 'cannot export annotations with "oci-mediatypes=false"'),
        (
            {"annotation-index-descriptor.a": ""},
            False,
            'cannot export annotations with "oci-mediatypes=false"',
        ),
        (
            {"annotation-manifest-descriptor.a": ""},
            False,
            'cannot export annotations with "oci-mediatypes=false"',
        ),
        (
            {"annotation[linux/s390x].a": ""},
            True,
            "invalid annotation: no platform linux/s390x found in source",
        ),
    ],
)
def test_annotations_that_an_image_can_have(
    attrs: dict[str, str], oci_types: bool, message: str | None
) -> None:
    groups, _ = AnnotationGroups.from_attributes(attrs)
    if message is None:
        groups.check(has_ref=lambda _: False, oci_types=oci_types)
        return
    with pytest.raises(ImageError) as error:
        groups.check(has_ref=lambda _: False, oci_types=oci_types)
    assert str(error.value) == message


@given(
    st.text(st.characters(codec=None))
    | st.from_regex(r"annotation(-[a-z-]+)?(\[[\w/-]+\])?\.\S+", fullmatch=True)
)
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        key = AnnotationKey.parse(text)
    except ImageError:
        return
    if key is not None and key.type in {AnnotationType.INDEX, AnnotationType.MANIFEST} and not key.platform:
        assert AnnotationKey.parse(str(key)) == key
