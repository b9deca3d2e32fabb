from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.image.options.attributes import AttributeValueError
from exporter.image.options.commit import CommitOptions


def load(**attrs: str) -> CommitOptions:
    options, _ = CommitOptions.load({key.replace("_", "-"): value for key, value in attrs.items()})
    return options


def test_nothing_is_decided_without_attributes() -> None:
    assert load() == CommitOptions()
    assert not load().oci_types_enabled
    assert not load().oci_artifact_enabled


def test_unknown_attributes_and_those_about_compression_are_handed_back() -> None:
    _, rest = CommitOptions.load({"compression": "zstd", "x": "1", "name": "a", "annotation.a": ""})
    assert rest == {"compression": "zstd", "x": "1"}


@pytest.mark.parametrize("default", [True, False])
def test_each_exporter_has_its_default_for_inline_attestations(default: bool) -> None:
    options, _ = CommitOptions.load({}, force_inline_attestations=default)
    assert options.force_inline_attestations is default
    options, _ = CommitOptions.load({"attestation-inline": "f"}, force_inline_attestations=default)
    assert options.force_inline_attestations is False


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        (
            ["oci-mediatypes", "compression", "source-date-epoch", "annotation-x.y"],
            "unrecognized annotation type x",
        ),
        (["oci-mediatypes", "compression", "source-date-epoch"], "invalid source-date-epoch"),
        (["oci-mediatypes", "compression", "attestation-inline"], "unsupported compression type bad"),
        (["oci-mediatypes", "attestation-inline"], "non-bool value specified for attestation-inline"),
    ],
)
def test_of_several_errors_one_is_always_the_first(attrs: list[str], message: str) -> None:
    for order in (attrs, attrs[::-1]):
        with pytest.raises(AttributeValueError) as error:
            CommitOptions.load(dict.fromkeys(order, "bad"))
        assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("attrs", "attribute", "message"),
    [
        (
            {"compression": "estargz", "oci-mediatypes": "false", "oci-artifact": "true"},
            "compression",
            'exporter option "compression=estargz" conflicts with "oci-mediatypes=false"',
        ),
        (
            {"oci-artifact": "true", "oci-mediatypes": "false"},
            "oci-artifact",
            'exporter option "oci-artifact=true" conflicts with "oci-mediatypes=false"',
        ),
    ],
)
def test_contradictions(attrs: dict[str, str], attribute: str, message: str) -> None:
    with pytest.raises(AttributeValueError) as error:
        CommitOptions.load(attrs)
    assert (error.value.attribute, str(error.value)) == (attribute, message)


@pytest.mark.parametrize(
    ("version", "has_attestations", "oci_types_default", "oci_types", "oci_artifact"),
    [
        (0, False, None, True, True),
        (30, False, None, True, True),
        (40, False, None, True, True),  # of a newer daemon, which has checked it
        (20, False, None, False, False),
        (20, True, None, True, False),
        (10, False, None, False, False),
        (10, True, None, True, False),
        (10, False, True, True, False),
        (30, False, True, True, True),
    ],
)
def test_defaults(
    version: int, has_attestations: bool, oci_types_default: bool | None, oci_types: bool, oci_artifact: bool
) -> None:
    options = load().for_export(
        {},
        has_attestations=has_attestations,
        compatibility_version=version,
        oci_types_default=oci_types_default,
    )
    assert (options.oci_types, options.oci_artifact) == (oci_types, oci_artifact)


def test_what_was_asked_for_wins_over_the_defaults() -> None:
    options = load(oci_mediatypes="false").for_export({}, has_attestations=True)
    assert (options.oci_types, options.oci_artifact) == (False, False)
    options = load(oci_artifact="true").for_export({}, has_attestations=True, compatibility_version=10)
    assert (options.oci_types, options.oci_artifact) == (True, True)


@pytest.mark.parametrize("attrs", [{"compression": "estargz"}, {"oci_artifact": "true"}])
def test_defaults_can_contradict_what_was_asked_for(attrs: dict[str, str]) -> None:
    options = load(**attrs)
    with pytest.raises(AttributeValueError, match='conflicts with "oci-mediatypes=false"'):
        options.for_export({}, has_attestations=False, compatibility_version=10)


def test_annotations_of_the_frontend_are_added() -> None:
    options, _ = CommitOptions.load({"annotation.a": "1"})
    complete = options.for_export({"annotation.a": b"2", "annotation.b": b"3"}, has_attestations=False)
    assert complete.annotations.platform(None).manifest == {"a": "2", "b": "3"}


def test_zstd_did_not_exist_in_version_10() -> None:
    load(compression="zstd").check_compatibility(20, "oci")
    load(compression="gzip").check_compatibility(10, "oci")
    with pytest.raises(AttributeValueError) as error:
        load(compression="zstd").check_compatibility(10, "oci")
    assert str(error.value) == "unsupported compatibility-version 10 feature oci exporter compression=zstd"


KEYS = st.sampled_from(
    [
        "name",
        "compression",
        "force-compression",
        "oci-mediatypes",
        "oci-artifact",
        "source-date-epoch",
        "annotation[a/b].c",
        "x",
    ]
)
VALUES = st.sampled_from(["", "true", "0", "estargz", "zstd", "5"]) | st.text(st.characters(codec=None))


@given(st.dictionaries(KEYS, VALUES))
def test_any_attributes_are_read_or_refused(attrs: dict[str, str]) -> None:
    try:
        options, rest = CommitOptions.load(attrs)
    except AttributeValueError as error:
        assert error.attribute in attrs
        return
    assert options.image_name == attrs.get("name", "")
    assert rest.items() <= attrs.items()
