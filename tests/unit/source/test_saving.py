from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.content import MemoryStore, OCILayout, copy_blobs
from exporter.errors import DataLossError, FailedPreconditionError, NotFoundError
from exporter.image import CompressionConfig, Time
from exporter.image.keys import DIFF_ID
from exporter.source import (
    Attestation,
    AttestationKind,
    BuildInfo,
    InlineRef,
    Layer,
    Ref,
    Remote,
    SavedSource,
    Source,
    Subject,
    SubjectKind,
    save_source,
)
from tests import builds
from tests.unit.content.images import Hanging, describe, names_in

BLOBS = (b"first", b"second")
CHAIN = (
    Layer("one", "RUN <make>\u2028", Time.parse("2024-05-06T12:34:56.123456789+02:00")),
    Layer("two", "", None),
)
DESCRIPTORS = tuple(replace(describe(blob), annotations={DIFF_ID: describe(blob).digest}) for blob in BLOBS)


def _ref(*chain: Layer, provider: MemoryStore | Hanging | None = None) -> InlineRef:
    return InlineRef("two", chain, DESCRIPTORS, MemoryStore(*BLOBS) if provider is None else provider)


Facts = dict[str, object]


async def _facts_of_ref(ref: Ref | None) -> object:
    if ref is None:
        return None
    remote = await ref.remote()
    await copy_blobs(MemoryStore(), remote.provider, remote.descriptors)
    chain = [(layer, layer.created_at and layer.created_at.marshal()) for layer in await ref.layer_chain()]
    return ref.id, chain, remote.descriptors


async def _facts(source: Source) -> Facts:
    """All observable properties of a source, for comparisons."""
    return {
        "ref": await _facts_of_ref(source.ref),
        "refs": source.refs and {key: await _facts_of_ref(ref) for key, ref in source.refs.items()},
        "keyed": source.refs is not None,
        "metadata": source.metadata,
        "attestations": {
            platform: [(replace(item, ref=None), await _facts_of_ref(item.ref)) for item in items]
            for platform, items in source.attestations.items()
        },
    }


async def _round_trip(source: Source, path: Path, build: BuildInfo | None = None) -> SavedSource:
    await save_source(source, build or BuildInfo(), path)
    saved = await SavedSource.open(path)
    assert await _facts(saved.source) == await _facts(source)
    return saved


@pytest.mark.parametrize("name", sorted(set(builds.scenario_names()) - {"lazy-image-nohistory"}))
async def test_a_recorded_build_can_be_saved_again(tmp_path: Path, name: str) -> None:
    recorded = await SavedSource.open(builds.scenario(name))
    saved = await _round_trip(recorded.source, tmp_path / "saved", recorded.build)
    assert saved.build == recorded.build
    assert names_in(tmp_path) == ["saved"]


@pytest.mark.parametrize(
    "source",
    [
        Source(),
        Source(refs={}),
        Source(refs={"a": None, "b": None}),
        Source(ref=_ref(*CHAIN)),
        Source(refs={"linux/amd64": _ref(*CHAIN), "linux/arm64": _ref(*CHAIN), "x": None}),
        Source(metadata={"é": b"\xff\x00", "refs.platforms": b"no json \xff"}),
    ],
)
async def test_any_source_survives(tmp_path: Path, source: Source) -> None:
    await _round_trip(source, tmp_path / "saved")


async def test_attestations_survive(tmp_path: Path) -> None:
    attestations = {
        "linux/amd64": (
            Attestation(
                AttestationKind.IN_TOTO, "p.json", "type", content=b"\xff", metadata={"reason": b"\xfe"}
            ),
            Attestation(
                AttestationKind.IN_TOTO,
                content=b"text",
                subjects=(Subject(SubjectKind.SELF), Subject(SubjectKind.RAW, "n", (DESCRIPTORS[0].digest,))),
            ),
        ),
        "linux/arm64": (Attestation(AttestationKind.BUNDLE, "/", ref=_ref(*CHAIN)),),
    }
    await _round_trip(Source(attestations=attestations), tmp_path / "saved")


async def test_the_build_survives_without_its_session(tmp_path: Path) -> None:
    build = BuildInfo("ref", "session", 20, {"": b"\x00", "linux/amd64": b"\xff"}, "buildkit-v1")
    saved = await _round_trip(Source(), tmp_path / "saved", build)
    assert saved.build == replace(build, session_id="")


@pytest.mark.parametrize("chain", [(), CHAIN[:1], (*CHAIN, Layer("three"))])
async def test_a_chain_that_does_not_fit_its_layers_survives(
    tmp_path: Path, chain: tuple[Layer, ...]
) -> None:
    await _round_trip(Source(ref=_ref(*chain)), tmp_path / "saved")


async def test_the_chain_is_requested_after_the_layers(tmp_path: Path) -> None:
    class Lazy(InlineRef):
        async def remote(self, compression: CompressionConfig | None = None) -> Remote:
            self._chain = CHAIN
            return await super().remote(compression)

    await save_source(
        Source(ref=Lazy("two", (), DESCRIPTORS, MemoryStore(*BLOBS))), BuildInfo(), tmp_path / "saved"
    )
    ref = (await SavedSource.open(tmp_path / "saved")).source.ref
    assert ref is not None
    assert await ref.layer_chain() == CHAIN


async def test_late_content_is_requested_after_the_layers(tmp_path: Path) -> None:
    steps = []

    class Noted(InlineRef):
        async def remote(self, compression: CompressionConfig | None = None) -> Remote:
            steps.append("layers")
            return await super().remote(compression)

    async def load() -> bytes:
        steps.append("content")
        return b"late"

    ref = Noted("two", CHAIN, DESCRIPTORS, MemoryStore(*BLOBS))
    late = Attestation(AttestationKind.IN_TOTO, "p", load_content=load)
    await save_source(Source(ref=ref, attestations={"x": (late,)}), BuildInfo(), tmp_path / "saved")
    (saved,) = (await SavedSource.open(tmp_path / "saved")).source.attestations["x"]
    assert saved == Attestation(AttestationKind.IN_TOTO, "p", content=b"late")
    assert steps == ["layers", "content"]


async def test_the_files_are_those_of_a_saved_source(tmp_path: Path) -> None:
    path = tmp_path / "a" / "saved"
    metadata = {"refs.platforms": b'{"Platforms":[{"ID":"x"}]}'}
    await save_source(Source(refs={"x": _ref(*CHAIN)}, metadata=metadata), BuildInfo(), path)
    assert names_in(path) == ["build.json", "chains.json", "oci", "source.json"]
    assert json.loads((path / "source.json").read_bytes()) == {
        "metadata": {"refs.platforms": "eyJQbGF0Zm9ybXMiOlt7IklEIjoieCJ9XX0="},
        "refs": ["two"],
        "platforms": {"Platforms": [{"ID": "x"}]},
    }
    first, second = (descriptor.to_dict() for descriptor in DESCRIPTORS)
    assert json.loads((path / "chains.json").read_bytes()) == {
        "refs": [
            {
                "slot": "refs",
                "key": "x",
                "ref": "two",
                "chain": [
                    {
                        "id": "one",
                        "description": "RUN <make>\u2028",
                        "created_at": "2024-05-06T12:34:56.123456789+02:00",
                        "blob": first,
                    },
                    {"id": "two", "blob": second},
                ],
            }
        ]
    }
    assert len(await (await OCILayout.open(path / "oci", create=False)).blobs()) == 2


async def test_an_empty_directory_is_used(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    await _round_trip(Source(), tmp_path / "saved")


async def test_existing_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "file").write_bytes(b"mine")
    (tmp_path / "file").write_bytes(b"mine")
    for name in ("directory", "file"):
        with pytest.raises(FailedPreconditionError, match=f"{name} already exists"):
            await save_source(Source(), BuildInfo(), tmp_path / name)
    assert names_in(tmp_path) == ["directory", "file"]


async def test_files_that_appear_meanwhile_are_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "saved"

    class Slow(InlineRef):
        async def remote(self, compression: CompressionConfig | None = None) -> Remote:
            path.mkdir()
            (path / "file").write_bytes(b"mine")
            return await super().remote(compression)

    ref = Slow("two", CHAIN, DESCRIPTORS, MemoryStore(*BLOBS))
    with pytest.raises(FailedPreconditionError, match="in the meantime"):
        await save_source(Source(ref=ref), BuildInfo(), path)
    assert names_in(tmp_path) == ["saved"]
    assert names_in(path) == ["file"]


async def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    damaged = MemoryStore(*BLOBS)
    damaged._blobs[DESCRIPTORS[1].digest] = b"secund"
    with pytest.raises(DataLossError):
        await save_source(Source(ref=_ref(*CHAIN, provider=damaged)), BuildInfo(), tmp_path / "saved")
    with pytest.raises(NotFoundError):
        await save_source(Source(ref=_ref(*CHAIN, provider=MemoryStore())), BuildInfo(), tmp_path / "saved")
    assert names_in(tmp_path) == []


async def test_cancellation_leaves_nothing(tmp_path: Path) -> None:
    hanging = Hanging(5)
    ref = _ref(*CHAIN, provider=hanging)
    saving = asyncio.create_task(save_source(Source(ref=ref), BuildInfo(), tmp_path / "saved"))
    await hanging.reading.wait()
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert names_in(tmp_path) == []
