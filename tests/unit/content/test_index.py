from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.content.index import LayoutIndex, _parse, _parse_quickly
from exporter.image import Descriptor, ImageError
from exporter.image.keys import CONTAINERD_NAME, REF_NAME
from exporter.image.media_types import OCI_INDEX, OCI_MANIFEST
from tests import builds
from tests.unit.content.images import describe

ONE = describe(b"one", OCI_MANIFEST)
TWO = describe(b"two", OCI_MANIFEST)
EMPTY = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'


def _entries(index: LayoutIndex) -> list[tuple[str | None, str | None, str]]:
    """Image name, ref name and digest of the entries."""
    manifests = json.loads(index.marshal())["manifests"]
    found = []
    for entry in manifests:
        annotations = entry.get("annotations", {})
        found.append((annotations.get(CONTAINERD_NAME), annotations.get(REF_NAME), entry["digest"]))
    return found


def test_a_new_index_is_empty() -> None:
    assert LayoutIndex().marshal() == EMPTY
    assert LayoutIndex.parse(b"").marshal() == EMPTY
    assert LayoutIndex.parse(b"{}").marshal() == EMPTY
    assert LayoutIndex.parse(b'{"schemaVersion":0,"mediaType":"","manifests":null}').marshal() == EMPTY


@pytest.mark.parametrize("name", builds.scenario_names(daemon="buildkit"))
def test_recorded_indexes_are_written_byte_for_byte(name: str) -> None:
    recorded = (builds.scenario(name) / "oci" / "index.json").read_bytes()
    assert LayoutIndex.parse(recorded).marshal() == recorded
    again = LayoutIndex()
    for entry in json.loads(recorded)["manifests"]:
        annotations = entry.get("annotations", {})
        image_name, ref_name = annotations.pop(CONTAINERD_NAME, None), annotations.pop(REF_NAME, None)
        if image_name is not None:
            again.insert_name(Descriptor.from_dict(entry), image_name)
        elif ref_name is not None:
            again.insert_tag(Descriptor.from_dict(entry), ref_name)
        else:
            again.insert(Descriptor.from_dict(entry))
    assert again.marshal() == recorded


def test_a_name_moves() -> None:
    index = LayoutIndex()
    index.insert_name(ONE, "docker.io/library/app:v1")
    index.insert_name(ONE, "example.com/app:v1")
    index.insert_tag(ONE, "v1")
    index.insert_name(TWO, "docker.io/library/app:v1")
    assert _entries(index) == [
        ("example.com/app:v1", "v1", ONE.digest),
        (None, "v1", ONE.digest),
        ("docker.io/library/app:v1", "v1", TWO.digest),
    ]
    index.insert_tag(TWO, "v1")
    assert _entries(index)[1:] == [
        ("docker.io/library/app:v1", "v1", TWO.digest),
        (None, "v1", TWO.digest),
    ]


def test_an_entry_without_a_name_is_added_once() -> None:
    index = LayoutIndex()
    for descriptor in (ONE, TWO, ONE):
        index.insert(descriptor)
    assert index.descriptors() == (ONE, TWO)


@pytest.mark.parametrize(
    ("name", "ref_name"),
    [
        ("docker.io/library/app:v1", "v1"),
        ("localhost:5000/app:v1", "v1"),
        ("localhost:5000/app", ""),
        ("example.com/a/b@sha256:abc", "@sha256:abc"),
        ("example.com/a:v1@sha256:abc", "v1@sha256:abc"),
        ("app", "app"),
        ("app:v1", "app:v1"),
    ],
)
def test_the_ref_name_is_what_follows_the_repository(name: str, ref_name: str) -> None:
    index = LayoutIndex()
    index.insert_name(ONE, name)
    assert _entries(index) == [(name, ref_name, ONE.digest)]


def test_names_are_found_before_tags() -> None:
    index = LayoutIndex()
    index.insert_tag(ONE, "app:v1")
    index.insert_name(TWO, "app:v1")
    index.insert_tag(ONE, "v1")
    for name, wanted in (("app:v1", TWO), ("v1", ONE)):
        found = index.find(name)
        assert found is not None
        assert found.digest == wanted.digest
    assert index.find("v2") is None


def test_foreign_entries_keep_their_spelling() -> None:
    foreign = (
        b'{"extra": {"a": [1.0, 1e400, 123456789012345678901234567890]},\n "manifests": ['
        b' {"x": "\\u003c\xff"}, 5,'
        b' {"annotations": {"org.opencontainers.image.ref.name": "v1", "n": null}, "size": 1e1, "new": {}},'
        b' {"annotations": {"org.opencontainers.image.ref.name": 5}} ], "annotations": {"z": "1", "a": "2"},'
        b' "schemaVersion": 3, "subject": {"digest": "x"}}'
    )
    index = LayoutIndex.parse(foreign)
    index.insert_tag(ONE, "v2")
    assert index.marshal() == (
        b'{"schemaVersion":3,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":['
        b'{"x":"\\u003c\xff"},5,'
        b'{"annotations":{"org.opencontainers.image.ref.name":"v1","n":null},"size":1e1,"new":{}},'
        b'{"annotations":{"org.opencontainers.image.ref.name":5}},'
        b'{"mediaType":"application/vnd.oci.image.manifest.v1+json",'
        b'"digest":"sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed","size":3,'
        b'"annotations":{"org.opencontainers.image.ref.name":"v2"}}],'
        b'"subject":{"digest":"x"},"annotations":{"z":"1","a":"2"},'
        b'"extra":{"a":[1.0,1e400,123456789012345678901234567890]}}'
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[]", "an index must be an object, not array"),
        (b'{"manifests":{}}', "manifests must be an array, not object"),
        (b'{"manifests":[}', "invalid character"),
        (b"[" * 10001, "exceeded max depth"),
    ],
)
def test_an_invalid_index_is_rejected(text: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        LayoutIndex.parse(text)


def test_entries_that_are_not_descriptors_are_rejected_on_access() -> None:
    index = LayoutIndex.parse(
        b'{"manifests":[{"size":"5","annotations":{"org.opencontainers.image.ref.name":"v1"}}]}'
    )
    with pytest.raises(ImageError, match="size"):
        index.descriptors()
    with pytest.raises(ImageError, match="size"):
        index.find("v1")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_DOCUMENTS = st.dictionaries(st.text(), _JSON, max_size=3).flatmap(
    lambda other: st.lists(_JSON, max_size=3).map(lambda manifests: {**other, "manifests": manifests})
)
_OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from([ONE, TWO]), st.sampled_from(["", "x", "d/r:x", "d/r:y", "e/r:x"]), st.booleans()
    ),
    min_size=1,
)


@given(_DOCUMENTS, _OPERATIONS)
def test_any_sequence_of_changes_keeps_the_foreign_and_one_entry_per_name(
    document: dict[str, Any], operations: list[tuple[Descriptor, str, bool]]
) -> None:
    data = json.dumps(document).encode()
    latest: dict[tuple[str, bool], str] = {}
    for descriptor, name, is_tag in operations:
        index = LayoutIndex.parse(data)
        if not name:
            index.insert(descriptor)
        elif is_tag:
            index.insert_tag(descriptor, name)
        else:
            index.insert_name(descriptor, name)
        latest[name, is_tag] = descriptor.digest
        data = index.marshal()
    written = json.loads(data)
    assert written["schemaVersion"] == document.get("schemaVersion") or written["schemaVersion"] == 2
    assert written["mediaType"] == document.get("mediaType") or written["mediaType"] == OCI_INDEX
    foreign = len(document["manifests"])
    assert written["manifests"][:foreign] == document["manifests"]
    for key in set(document) - {"manifests", "schemaVersion", "mediaType"}:
        assert written[key] == document[key]
    named: dict[tuple[str, bool], str] = {}
    for entry in written["manifests"][foreign:]:
        annotations = entry.get("annotations", {})
        is_tag = CONTAINERD_NAME not in annotations
        owner = (annotations.get(REF_NAME if is_tag else CONTAINERD_NAME, ""), is_tag)
        if owner[0]:
            assert owner not in named
            named[owner] = entry["digest"]
    assert named == {owner: digest for owner, digest in latest.items() if owner[0]}
    assert LayoutIndex.parse(data).marshal() == data


KEYS = st.sampled_from(["a", "<", "manifests"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, st.sampled_from([None, 2]))
def test_both_readers_agree(value: Any, indent: int | None) -> None:
    for document in ({"manifests": value, "schemaVersion": 2}, value):
        data = json.dumps(document, indent=indent, ensure_ascii=False).encode("utf-8", "replace")
        quick = _parse_quickly(data)
        if quick is not None:
            careful, manifests = _parse(data)
            careful.pop("manifests", None)
            assert quick == (careful, manifests)


def test_entries_that_occur_twice_stay_twice() -> None:
    entry = ONE.marshal()
    index = LayoutIndex.parse(b'{"manifests":[%s,%s]}' % (entry, entry))
    index.insert(ONE)
    assert len(json.loads(index.marshal())["manifests"]) == 2


@pytest.mark.parametrize("data", [b'"text"', b"[]", b"1", b"null", b"true"])
def test_an_index_is_an_object(data: bytes) -> None:
    with pytest.raises(ImageError):
        LayoutIndex.parse(data)
