from __future__ import annotations

import base64
import copy
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.content import MemoryStore, copy_blobs, read_blob
from exporter.errors import ExporterError, InvalidArgumentError, NotFoundError
from exporter.image import Descriptor, Time, digest_bytes
from exporter.image.keys import DIFF_ID
from exporter.image.media_types import OCI_LAYER, OCI_LAYER_GZIP
from exporter.source import (
    Attestation,
    AttestationKind,
    BuildInfo,
    Ref,
    SavedSource,
    Source,
    Subject,
    SubjectKind,
    check_chain,
)
from tests import builds

DIGEST = digest_bytes(b"layer")
BLOB = {"mediaType": OCI_LAYER_GZIP, "digest": DIGEST, "size": 5, "annotations": {DIFF_ID: DIGEST}}
LAYER = {"id": "one", "description": "RUN make", "created_at": "2024-05-06T12:34:56.5+02:00", "blob": BLOB}
RECORD = {"slot": "ref", "key": "", "ref": "one", "chain": [LAYER]}
DOCUMENTS: dict[str, Any] = {"source.json": {"metadata": {"key": "AAE="}}, "chains.json": {"refs": [RECORD]}}


def _write(path: Path, documents: dict[str, Any]) -> Path:
    path.mkdir(exist_ok=True)
    for name, document in documents.items():
        (path / name).write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def _refs(source: Source) -> list[Ref]:
    refs = [source.ref] if source.refs is None else list(source.refs.values())
    refs += [item.ref for items in source.attestations.values() for item in items]
    return [ref for ref in refs if ref is not None]


async def _open(path: Path, documents: dict[str, Any]) -> SavedSource:
    return await SavedSource.open(_write(path, documents))


# --- recorded builds ---


@pytest.mark.parametrize("name", builds.scenario_names())
async def test_a_recorded_build_is_loaded_as_it_was_recorded(name: str) -> None:
    saved = await SavedSource.open(builds.scenario(name))
    recorded = builds.read_json(name, "source.json")
    assert saved.source.metadata == {
        key: base64.b64decode(value) for key, value in recorded["metadata"].items()
    }
    records = builds.read_json(name, "chains.json")["refs"]
    keyed = {record["key"]: record["ref"] for record in records if record.get("slot") == "refs"}
    if keyed:
        assert saved.source.ref is None
        assert saved.source.refs is not None
        assert {key: ref and ref.id for key, ref in saved.source.refs.items()} == keyed
    else:
        assert saved.source.refs is None
        assert (saved.source.ref and saved.source.ref.id) == records[0]["ref"]
    chains = {record["ref"]: record["chain"] for record in records}
    for ref in _refs(saved.source):
        chain = await ref.layer_chain()
        assert [(layer.id, layer.description, layer.created_at) for layer in chain] == [
            (layer["id"], layer["description"], Time.parse(layer["created_at"])) for layer in chains[ref.id]
        ]
        remote = await ref.remote()
        check_chain(chain, remote.descriptors)
        if all(layer["diff_id"] for layer in chains[ref.id]):
            assert list(remote.diff_ids) == [layer["diff_id"] for layer in chains[ref.id]]
        if name != "lazy-image-nohistory":
            await copy_blobs(MemoryStore(), remote.provider, remote.descriptors)


async def test_an_unrecorded_blob_is_an_error_only_when_read() -> None:
    saved = await SavedSource.open(builds.scenario("lazy-image-nohistory"))
    (ref,) = _refs(saved.source)
    remote = await ref.remote()
    missing = builds.read_json("lazy-image-nohistory", "result.json")["missing_blobs"]
    for descriptor in remote.descriptors:
        if descriptor.digest in missing:
            with pytest.raises(NotFoundError, match=descriptor.digest):
                await read_blob(remote.provider, descriptor)


async def test_layers_of_a_docker_save_are_plain_tars() -> None:
    saved = await SavedSource.open(builds.scenario("moby-run-chain"))
    (ref,) = _refs(saved.source)
    remote = await ref.remote()
    for descriptor in remote.descriptors:
        assert descriptor.media_type == OCI_LAYER
        data = await read_blob(remote.provider, descriptor)
        assert len(data) == descriptor.size
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            assert archive.getmembers()


async def test_attestations_are_loaded() -> None:
    saved = await SavedSource.open(builds.scenario("provenance-multi-max"))
    recorded = builds.read_json("provenance-multi-max", "attestations.json")["attestations"]
    assert saved.source.attestations == {
        item["platform"]: (
            Attestation(
                AttestationKind.IN_TOTO,
                path="provenance.json",
                predicate_type="https://slsa.dev/provenance/v1",
                metadata={"inline-only": b"false", "reason": b"provenance"},
                content=item["content"][0].encode(),
            ),
        )
        for item in recorded
    }


async def test_a_ref_that_was_recorded_by_its_files_has_a_layer_of_them() -> None:
    saved = await SavedSource.open(builds.scenario("sbom"))
    (attestation,) = saved.source.attestations["linux/amd64"]
    assert attestation.kind is AttestationKind.BUNDLE
    assert attestation.ref is not None
    remote = await attestation.ref.remote()
    data = await read_blob(remote.provider, remote.descriptors[0])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        (member,) = archive.getmembers()
        assert (member.name, member.type) == ("sbom.spdx.json", tarfile.REGTYPE)
        content = archive.extractfile(member)
        assert content is not None
        assert json.load(content)["predicateType"] == "https://spdx.dev/Document"


async def test_the_compatibility_version_of_a_record_is_kept() -> None:
    assert (await SavedSource.open(builds.scenario("compat-10"))).build.compatibility_version == 10
    assert (await SavedSource.open(builds.scenario("run-chain"))).build.compatibility_version == 0


@pytest.mark.parametrize(
    ("version", "builder"),
    [
        ("v0.32.2", "buildkit-v0.32.2"),
        ("master, built with the version string v0.0.0+unknown", "buildkit-v0.0.0+unknown"),
        ("dockerd 20.10.24+dfsg1 (Debian), BuildKit embedded in it", ""),
        ("", ""),
    ],
)
async def test_the_version_of_a_record_selects_the_builder(
    version: str, builder: str, tmp_path: Path
) -> None:
    scenario = {"buildkit": {"version": version}}
    saved = await _open(tmp_path, {"source.json": {}, "chains.json": {"refs": []}, "scenario.json": scenario})
    assert saved.build == BuildInfo(builder=builder)


@pytest.mark.parametrize("file", ["build.json", "scenario.json"])
async def test_the_compatibility_version_must_be_one(file: str, tmp_path: Path) -> None:
    documents = {"source.json": {}, "chains.json": {"refs": []}, file: {"compatibility_version": 11}}
    text = f"{file}: compatibility_version: unsupported compatibility-version 11 "
    with pytest.raises(InvalidArgumentError, match=text):
        await _open(tmp_path, documents)


async def test_one_ref_in_several_places_is_one_ref() -> None:
    refs = (await SavedSource.open(builds.scenario("llb-multi-shared"))).source.refs
    assert refs is not None
    assert len(refs) == 3
    assert len({id(ref) for ref in refs.values()}) == 1


# --- documents ---


async def test_the_smallest_source(tmp_path: Path) -> None:
    saved = await _open(tmp_path, {"source.json": {}, "chains.json": {"refs": []}})
    assert (saved.source, saved.build) == (Source(), BuildInfo())


async def test_a_source_written_by_hand(tmp_path: Path) -> None:
    saved = await _open(tmp_path, DOCUMENTS)
    assert saved.source.metadata == {"key": b"\x00\x01"}
    (ref,) = _refs(saved.source)
    (layer,) = await ref.layer_chain()
    assert layer.created_at is not None
    assert (layer.id, layer.description, layer.created_at.marshal()) == (
        "one",
        "RUN make",
        "2024-05-06T12:34:56.5+02:00",
    )
    assert (await ref.remote()).descriptors == (Descriptor.from_dict(BLOB),)


async def test_a_keyed_result_can_be_empty(tmp_path: Path) -> None:
    saved = await _open(tmp_path, {"source.json": {}, "chains.json": {"refs": [], "keyed": True}})
    assert saved.source == Source(refs={})


async def test_the_diff_id_can_stand_beside_the_blob(tmp_path: Path) -> None:
    blob = {key: value for key, value in BLOB.items() if key != "annotations"}
    documents = copy.deepcopy(DOCUMENTS)
    documents["chains.json"]["refs"][0]["chain"][0] |= {"blob": blob, "diff_id": DIGEST}
    (ref,) = _refs((await _open(tmp_path, documents)).source)
    assert (await ref.remote()).diff_ids == (DIGEST,)


async def test_a_ref_without_blobs_has_a_chain_only(tmp_path: Path) -> None:
    documents = copy.deepcopy(DOCUMENTS)
    documents["chains.json"]["refs"][0]["chain"][0]["blob"] = None
    (ref,) = _refs((await _open(tmp_path, documents)).source)
    assert len(await ref.layer_chain()) == 1
    with pytest.raises(NotFoundError, match="ref one was saved without its layers"):
        await ref.remote()


async def test_all_fields_of_attestations_and_of_the_build(tmp_path: Path) -> None:
    attestation = {
        "platform": "p",
        "kind": "InToto",
        "metadata": {"text": "é", "bytes": {"base64": "/w=="}},
        "subjects": [{"kind": "Self"}, {"kind": "Raw", "name": "n", "digests": [DIGEST]}],
        "ref": "one",
        "content": [{"base64": "AP8="}],
    }
    build = {"ref": "b", "compatibility_version": 20, "inline_cache": {"": "AAE="}, "builder": "buildkit-v1"}
    documents = {**DOCUMENTS, "attestations.json": {"attestations": [attestation]}, "build.json": build}
    saved = await _open(tmp_path, documents)
    assert saved.build == BuildInfo("b", "", 20, {"": b"\x00\x01"}, "buildkit-v1")
    (loaded,) = saved.source.attestations["p"]
    assert loaded == Attestation(
        AttestationKind.IN_TOTO,
        subjects=(Subject(SubjectKind.SELF), Subject(SubjectKind.RAW, "n", (DIGEST,))),
        metadata={"text": "é".encode(), "bytes": b"\xff"},
        ref=saved.source.ref,
        content=b"\x00\xff",
    )


@pytest.mark.parametrize("name", ["source.json", "chains.json"])
async def test_a_directory_with_something_else_is_reported(tmp_path: Path, name: str) -> None:
    documents = {key: value for key, value in DOCUMENTS.items() if key != name}
    with pytest.raises(NotFoundError, match=f"is not a saved source: it has no file {name}"):
        await _open(tmp_path, documents)


def _layer(**changes: Any) -> dict[str, Any]:
    return {"refs": [{**RECORD, "chain": [{**LAYER, **changes}]}]}


def _moby(layer: str, diff_id: str | None = DIGEST) -> dict[str, Any]:
    return _layer(blob=None, layer=layer, diff_id=diff_id)


@pytest.mark.parametrize(
    ("name", "document", "message"),
    [
        ("source.json", "{", "line 1, column 2: the file ends too early"),
        ("source.json", "[" * 100_000, "nested too deeply|malformed|Expected"),
        ("source.json", {"metadata": {"key": "?"}}, r"base64 .* `\$.metadata\[...\]`"),
        ("source.json", {"metadata": []}, r"Expected `object \| null`, got `array` - at `\$.metadata`"),
        ("chains.json", {}, "missing required field `refs`"),
        ("chains.json", {"refs": [{"slot": "x"}]}, r"Invalid enum value 'x' - at `\$.refs\[0\].slot`"),
        ("chains.json", _layer(id=5), r"got `int` - at `\$.refs\[0\].chain\[0\].id`"),
        ("chains.json", _layer(created_at="x"), r"refs\[0\].chain\[0\].created_at: parsing time"),
        ("chains.json", _layer(blob={"size": "5"}), r"refs\[0\].chain\[0\].blob: .*size"),
        ("chains.json", _layer(blob={}), r"refs\[0\].chain\[0\].blob.digest: digest ''"),
        ("chains.json", _layer(diff_id="x"), r"refs\[0\].chain\[0\].diff_id: digest 'x'"),
        (
            "chains.json",
            _layer(diff_id=digest_bytes(b"")),
            r"\.diff_id: the blob's annotation .* has a different diff ID",
        ),
        ("chains.json", _moby("../../etc/passwd"), "etc/passwd is not below save/"),
        ("chains.json", _moby("/etc/passwd"), "etc/passwd is not below save/"),
        ("chains.json", _moby("a\0b"), "embedded null"),
        ("chains.json", _moby("layer.tar", None), "must have its diff_id"),
        ("chains.json", {"refs": [RECORD, RECORD]}, "either a single ref or refs by key"),
        ("chains.json", {"refs": [RECORD], "keyed": True}, "either a single ref or refs by key"),
        (
            "chains.json",
            {"refs": [{**RECORD, "slot": "refs", "key": "k"}] * 2},
            r"refs\[1\]: .* with the key 'k'",
        ),
        ("chains.json", {"refs": [{**RECORD, "ref": None}]}, r"refs\[0\]: there is a chain but no ref"),
        (
            "chains.json",
            {"refs": [RECORD, {**RECORD, "slot": "attestation", "chain": []}]},
            r"refs\[1\]: ref one has a different chain in an earlier record",
        ),
        (
            "attestations.json",
            {"attestations": [{"platform": "p", "kind": "InToto", "ref": "two"}]},
            r"attestations\[0\].ref: chains.json has no ref two",
        ),
        ("attestations.json", {"attestations": [{"platform": "p", "kind": "x"}]}, "Invalid enum value 'x'"),
        (
            "build.json",
            {"inline_cache": {"": 5}},
            r"build.json: Expected `bytes`, got `int` - at `\$.inline_cache\[...\]`",
        ),
        ("scenario.json", {"compatibility_version": "10"}, "scenario.json: Expected `int | null`"),
    ],
)
async def test_errors_name_file_and_place(tmp_path: Path, name: str, document: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        await _open(tmp_path, {**DOCUMENTS, name: document})
    assert str(caught.value).startswith(f"{tmp_path}/{name}: ")


async def test_a_link_in_a_docker_save_may_lead_to_another_layer_but_not_out_of_it(tmp_path: Path) -> None:
    _write(tmp_path, {**DOCUMENTS, "chains.json": _moby("two/layer.tar")})
    for name in ("one", "two"):
        (tmp_path / "save" / name).mkdir(parents=True)
    (tmp_path / "save" / "one" / "layer.tar").write_bytes(b"layer")
    link = tmp_path / "save" / "two" / "layer.tar"
    link.symlink_to("../one/layer.tar")
    (ref,) = _refs((await SavedSource.open(tmp_path)).source)
    remote = await ref.remote()
    assert await read_blob(remote.provider, remote.descriptors[0]) == b"layer"
    link.unlink()
    (tmp_path / "secret").write_bytes(b"layer")
    link.symlink_to("../../secret")
    with pytest.raises(InvalidArgumentError, match="is not below save/"):
        await SavedSource.open(tmp_path)
    shutil.rmtree(tmp_path / "save")
    (ref,) = _refs((await SavedSource.open(tmp_path)).source)
    with pytest.raises(NotFoundError):
        await ref.remote()


_JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from([DIGEST, BLOB, LAYER, RECORD]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)


@st.composite
def _damaged(draw: st.DrawFn) -> dict[str, Any]:
    """The documents with one value, anywhere in them, replaced by junk."""
    documents: Any = copy.deepcopy(DOCUMENTS)
    documents["attestations.json"] = {"attestations": [{"platform": "p", "kind": "InToto", "content": ["x"]}]}
    documents["build.json"] = {"ref": "b", "inline_cache": {"": "AAE="}}
    place = documents[draw(st.sampled_from(sorted(documents)))]
    while True:
        key = draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or draw(st.booleans()):
            place[key] = draw(_JUNK)
            return documents  # type: ignore[no-any-return]
        place = place[key]


@given(_damaged())
async def test_any_damage_raises_our_error_or_none(
    tmp_path_factory: pytest.TempPathFactory, documents: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    try:
        saved = await _open(path, documents)
        for ref in _refs(saved.source):
            await ref.layer_chain()
            await ref.remote()
    except ExporterError as error:
        assert str(error)
