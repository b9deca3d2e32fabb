from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import ExporterError
from exporter.exporters.attestations import predicate
from exporter.exporters.attestations.layers import make_statements
from exporter.exporters.attestations.sbom import SBOMSupplement, own_name
from exporter.exporters.attestations.statements import StatementSubject
from exporter.image import ImageError, digest_bytes
from exporter.layer.gotar import Header, TarWriter, TypeFlag
from exporter.layer.streams import Pieces
from exporter.source.types import Attestation, AttestationKind, Ref, Remote
from tests.unit.exporters.harness import FakeLayer, make_ref

SPDX = "https://spdx.dev/Document"
IMAGE = [StatementSubject("pkg:docker/app@1", {"sha256": "aa"})]


def make_tar(files: Mapping[str, bytes | None]) -> bytes:
    """A tar; None makes a directory, bytes that begin with ``->`` a symbolic link."""
    pieces = Pieces()
    writer = TarWriter(pieces)
    for name, content in files.items():
        if content is None:
            writer.write_header(Header(name=name.encode(), typeflag=TypeFlag.DIR, mode=0o755))
        elif content.startswith(b"->"):
            writer.write_header(
                Header(name=name.encode(), typeflag=TypeFlag.SYMLINK, linkname=content[2:], mode=0o777)
            )
        else:
            writer.write_header(Header(name=name.encode(), size=len(content), mode=0o644))
            writer.write(content)
    writer.close()
    return pieces.take()


def files_ref(*layers: Mapping[str, bytes | None]) -> Ref:
    return make_ref([FakeLayer(make_tar(files)) for files in layers])


def statement(predicate_type: str = SPDX, subject: object = (), predicate: object = None) -> bytes:
    return json.dumps(
        {"_type": "x", "predicateType": predicate_type, "subject": list(subject), "predicate": predicate}  # type: ignore[call-overload]
    ).encode()


def bundle(ref: Ref | None, **values: Any) -> Attestation:
    return Attestation(AttestationKind.BUNDLE, **{"path": "/sbom", "ref": ref, **values})


def assert_empty(directory: Path) -> None:
    assert not list(directory.iterdir())


async def statements(
    *attestations: Attestation, image_ref: Ref | None = None, scratch: Path
) -> list[dict[str, Any]]:
    chain = None if image_ref is None else await image_ref.layer_chain()
    remote = await (image_ref or make_ref([])).remote()
    made = await make_statements(attestations, IMAGE, SBOMSupplement(chain, remote), scratch)
    return [json.loads(made_statement.data) for made_statement in made]


async def test_content_and_files(tmp_path: Path) -> None:
    ref = files_ref({"out/": None, "out/a.json": b'{"n":1.0}'})
    made = await statements(
        Attestation(AttestationKind.IN_TOTO, "given.json", "t1", content=b'{"given":true}'),
        Attestation(AttestationKind.IN_TOTO, "/out/a.json", "t2", ref=ref),
        scratch=tmp_path,
    )
    assert [(s["predicateType"], s["predicate"]) for s in made] == [
        ("t1", {"given": True}),
        ("t2", {"n": 1.0}),
    ]
    assert all(s["subject"] == [{"name": "pkg:docker/app@1", "digest": {"sha256": "aa"}}] for s in made)
    assert_empty(tmp_path)


async def test_content_from_the_daemon_is_requested(tmp_path: Path) -> None:
    async def load() -> bytes:
        return b'{"late":true}'

    provenance = "https://slsa.dev/provenance/v1"
    late = Attestation(AttestationKind.IN_TOTO, "p.json", provenance, load_content=load)
    assert [s["predicate"] for s in await statements(late, scratch=tmp_path)] == [{"late": True}]


async def test_large_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicate, "MAX_BYTES", 9)
    with pytest.raises(ExporterError, match="^p exceeds 9 bytes$"):
        await statements(Attestation(AttestationKind.IN_TOTO, "p", content=b'"too long"'), scratch=tmp_path)


async def test_bundle(tmp_path: Path) -> None:
    subject = {"name": "file", "digest": {"sha256": "bb"}}
    ref = files_ref(
        {"sbom/": None, "sbom/b.json": statement(predicate={"z": 1.0, "a": "<"}), "sbom/gone.json": b"junk"},
        {"sbom/.wh.gone.json": b"", "sbom/a.json": statement("other", [subject])},
    )
    made = await statements(bundle(ref), scratch=tmp_path)
    # By name, and as Go has rewritten them.
    assert [(s["predicateType"], s["predicate"], s["subject"]) for s in made] == [
        ("other", None, [subject]),
        (SPDX, {"a": "<", "z": 1}, [{"name": "pkg:docker/app@1", "digest": {"sha256": "aa"}}]),
    ]


async def test_links_in_a_bundle_are_followed(tmp_path: Path) -> None:
    ref = files_ref(
        {
            "sbom": b"->data/v1",
            "data/v1/a.json": b"->b.json",
            "data/v1/b.json": statement(),
        }
    )
    assert len(await statements(bundle(ref), scratch=tmp_path)) == 2


async def test_the_sbom_of_the_image_comes_first(tmp_path: Path) -> None:
    ref = files_ref({"sbom-build.spdx.json": statement("b"), "sbom.spdx.json": statement("a")})
    made = await statements(bundle(ref, path="", metadata={"sbom-core": b"sbom"}), scratch=tmp_path)
    assert [s["predicateType"] for s in made] == ["a", "b"]


@pytest.mark.parametrize(
    ("attestation", "message"),
    [
        (Attestation(AttestationKind.IN_TOTO, content=b"1"), "attestation does not have set path"),
        (Attestation(AttestationKind.IN_TOTO, "a"), "attestation does not have available content"),
        (
            Attestation(AttestationKind.IN_TOTO, "a", "https://slsa.dev/provenance/v1", ref=files_ref({})),
            "frontend may not set provenance attestations",
        ),
        (bundle(files_ref({}), content=b"1"), "attestation bundle cannot have callback"),
        (bundle(None, content=None), "attestation does not have available content"),
        (
            bundle(files_ref({"sbom/a": statement("https://slsa.dev/provenance/v1")})),
            "frontend may not bundle provenance attestations",
        ),
        (
            bundle(files_ref({"sbom/a": statement("t")}), predicate_type="u"),
            "bundle entry t does not match required predicate type u",
        ),
        (
            bundle(files_ref({"sbom/a": b"{"})),
            "/sbom/a: cannot decode in-toto statement: unexpected end of JSON input",
        ),
        (
            bundle(files_ref({"sbom/a": b"{} {}"})),
            "/sbom/a: in-toto statement is not a single JSON object",
        ),
        (bundle(files_ref({"sbom/a/": None})), "/sbom/a is not a regular file"),
        (bundle(files_ref({"sbom": b"a file"})), "/sbom is not a directory"),
        (bundle(files_ref({"other/": None})), "/sbom: no such file or directory"),
        (
            Attestation(AttestationKind.IN_TOTO, "/x", "t", ref=files_ref({"y": b""})),
            "/x: no such file or directory",
        ),
        (
            Attestation(AttestationKind.IN_TOTO, "/big", "t", ref=files_ref({"big": b"1" * 2000})),
            "/big exceeds 1000 bytes",
        ),
        (
            Attestation(AttestationKind.IN_TOTO, "/x", "t", ref=files_ref({"x": b"no json"})),
            "failed to marshal attestation: json: error calling MarshalJSON for type json.RawMessage: "
            "invalid character 'o' in literal null (expecting 'u')",
        ),
    ],
)
async def test_refusals(
    attestation: Attestation, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicate, "MAX_BYTES", 1000)
    with pytest.raises((ExporterError, ImageError)) as raised:
        await statements(attestation, scratch=tmp_path)
    assert str(raised.value) == message
    assert_empty(tmp_path)


def sbom(*files: str, path: str = "/sbom.spdx.json") -> Attestation:
    document = {
        "spdxVersion": "SPDX-2.3",
        "SPDXID": "SPDXRef-DOCUMENT",
        "files": [{"fileName": name, "SPDXID": f"SPDXRef-{i}"} for i, name in enumerate(files)],
    }
    return Attestation(
        AttestationKind.IN_TOTO,
        path,
        SPDX,
        metadata={"sbom-core": b"sbom"},
        content=json.dumps(document).encode(),
    )


BASE: Mapping[str, bytes | None] = {"a": b"old", "b": b"b", "dir/": None, "dir/c": b"c"}
TOP: Mapping[str, bytes | None] = {"a": b"new", ".wh.b": b""}


async def test_files_get_the_layer_they_come_from(tmp_path: Path) -> None:
    ref = files_ref(BASE, TOP)
    (made,) = await statements(sbom("/a", "b", "./dir//c", "/nowhere"), image_ref=ref, scratch=tmp_path)
    base, top = (digest_bytes(make_tar(files)) for files in (BASE, TOP))
    comments = [file.get("comment") for file in made["predicate"]["files"]]
    # A deleted file is in the layer that made it.
    assert comments == [f"layerID: {top}", f"layerID: {base}", f"layerID: {base}", None]
    assert made["predicate"]["creationInfo"]["creators"] == [f"Tool: {own_name()}"]


async def test_the_builder_has_completed_the_document(tmp_path: Path) -> None:
    ref = files_ref(BASE)
    supplement = SBOMSupplement(await ref.layer_chain(), await ref.remote(), "buildkit-v1")
    (statement,) = await make_statements([sbom("/a")], IMAGE, supplement, tmp_path)
    creators = json.loads(statement.data)["predicate"]["creationInfo"]["creators"]
    assert creators == ["Tool: buildkit-v1"]


async def test_layers_are_read_no_further_than_needed(tmp_path: Path) -> None:
    ref = files_ref(BASE, TOP)
    remote = await ref.remote()
    # The base layer cannot be read.
    broken = Remote((FakeLayer(b"missing").descriptor(), remote.descriptors[1]), remote.provider)
    supplement = SBOMSupplement(await ref.layer_chain(), broken)
    await make_statements([sbom("/a")], IMAGE, supplement, tmp_path)
    with pytest.raises(ExporterError, match="not found"):
        await make_statements([sbom("/a", "/c")], IMAGE, supplement, tmp_path)


@pytest.mark.parametrize(
    "attestation",
    [
        sbom("/a", path="/sbom-build.spdx.json"),
        Attestation(
            AttestationKind.IN_TOTO,
            "/sbom.json",
            SPDX,
            metadata={"sbom-core": b"sbom"},
            content=b'{"no":"spdx"}',
        ),
        Attestation(AttestationKind.IN_TOTO, "/sbom.json", "other", content=sbom("/a").content),
    ],
    ids=["of a build stage", "no SPDX", "of another type"],
)
async def test_other_attestations_stay_as_they_are(attestation: Attestation, tmp_path: Path) -> None:
    (made,) = await statements(attestation, image_ref=files_ref(BASE), scratch=tmp_path)
    assert made["predicate"] == json.loads(attestation.content or b"")


async def test_without_layers_an_sbom_gets_no_comments(tmp_path: Path) -> None:
    (made,) = await statements(sbom("/a"), scratch=tmp_path)
    assert "creationInfo" not in made["predicate"]
