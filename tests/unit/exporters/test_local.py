from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.content.memory import MemoryStore
from exporter.errors import (
    DataLossError,
    ExporterError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from exporter.exporters.files.entry import FileEntry
from exporter.exporters.local import LocalExporter
from exporter.exporters.output import LocalOutput
from exporter.exporters.tar import TarExporter
from exporter.image import Descriptor, ImageError, digest_bytes
from exporter.image.media_types import OCI_LAYER
from exporter.source.types import Attestation, AttestationKind, Source
from tests.unit.exporters.files.test_directory import contents, mode
from tests.unit.exporters.harness import FakeLayer, Workplace, make_ref
from tests.unit.layer import tars

PROVENANCE = "https://slsa.dev/provenance/v1"
PLATFORMS = ("linux/amd64", "linux/arm64")


def layer(*entries: Any) -> FakeLayer:
    return FakeLayer(tars.tar(*entries))


def keyed(layers: Mapping[str, FakeLayer], **values: Any) -> Source:
    """A result that is keyed by platform."""
    listed = [
        {"ID": key, "Platform": {"os": key.split("/")[0], "architecture": key.split("/")[1]}}
        for key in layers
    ]
    metadata = {"refs.platforms": json.dumps({"Platforms": listed}).encode()}
    refs = {key: make_ref([made], ref_id=key) for key, made in layers.items()}
    return Source(refs=refs, metadata=metadata | values.pop("metadata", {}), **values)


def single(*layers: FakeLayer, **values: Any) -> Source:
    config = json.dumps({"os": "linux", "architecture": "amd64"}).encode()
    metadata = {"containerimage.config": config} | values.pop("metadata", {})
    return Source(ref=make_ref(layers), metadata=metadata, **values)


def attestation(path: str = "provenance.json", **values: Any) -> Attestation:
    given = {"predicate_type": PROVENANCE, "content": b'{"n": 1.0}', **values}
    return Attestation(AttestationKind.IN_TOTO, path, **given)


TWO = {
    platform: layer(tars.entry(platform.split("/")[1], b"x"), tars.directory("d")) for platform in PLATFORMS
}
CLASH = {platform: layer(tars.entry("same", platform.encode())) for platform in PLATFORMS}


class Out:
    """An output that records what is written to it."""

    def __init__(self) -> None:
        self.trees: list[list[FileEntry]] = []
        self.deletes: list[bool] = []

    async def directory(
        self,
        entries: Iterable[FileEntry],
        *,
        delete: bool = False,
        on_sent: Callable[[int], None] | None = None,
    ) -> None:
        self.trees.append(list(entries))
        self.deletes.append(delete)

    def file(self, response: Mapping[str, str]) -> Any:
        raise AssertionError

    layout: Any = None


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


async def export(work: Workplace, source: Source, **attrs: str) -> dict[str, bytes | str | None]:
    attrs = {key.replace("_", "-"): value for key, value in attrs.items()}
    out = work.root / "out"
    result = await work.export(LocalExporter(attrs), source, output=LocalOutput(str(out)))
    assert result.response == {}
    assert result.finalize is None
    assert not work.unfinished()
    assert not list((work.root / "scratch").iterdir())
    return contents(out)


def test_name() -> None:
    assert LocalExporter({}).name == "exporting to client directory"
    assert {attribute.name for attribute in LocalExporter.attributes} == {
        "source-date-epoch",
        "attestation-prefix",
        "platform-split",
        "mode",
    }


async def test_the_layers_of_a_ref_on_top_of_each_other(work: Workplace) -> None:
    source = single(
        layer(tars.directory("d", mode=0o700), tars.entry("d/x", b"old", mode=0o640), tars.entry("gone")),
        layer(tars.entry("d/x", b"new", mode=0o4711), tars.entry(".wh.gone"), tars.hardlink("h", "d/x")),
        layer(tars.symlink("s", "/d")),
    )
    assert await export(work, source) == {"d": None, "d/x": b"new", "h": b"new", "s": "-> /d"}
    assert (work.root / "out/d/x").samefile(work.root / "out/h")
    assert mode(work.root / "out/d") == 0o700
    assert (work.root / "out/d/x").stat().st_mtime == 1_700_000_000
    assert work.status_ids() == ["copying files"]
    assert work.updates[-1].statuses[0].name == "transferring"
    assert work.updates[-1].statuses[0].current == 3


async def test_platforms_have_directories_of_their_own(work: Workplace) -> None:
    assert await export(work, keyed(TWO)) == {
        "linux_amd64": None,
        "linux_amd64/amd64": b"x",
        "linux_amd64/d": None,
        "linux_arm64": None,
        "linux_arm64/arm64": b"x",
        "linux_arm64/d": None,
    }
    assert (work.root / "out/linux_amd64").stat().st_mtime == 0
    assert work.status_ids() == ["copying files linux/amd64", "copying files linux/arm64"]


async def test_platforms_in_one_directory(work: Workplace) -> None:
    found = await export(work, keyed(TWO), platform_split="false")
    assert found == {"amd64": b"x", "arm64": b"x", "d": None}
    assert work.status_ids() == ["copying files"]


async def test_a_single_platform_in_a_directory_of_its_own(work: Workplace) -> None:
    assert await export(work, single(layer(tars.entry("x"))), platform_split="true") == {
        "linux_amd64": None,
        "linux_amd64/x": b"",
    }


async def test_platforms_with_the_same_file(work: Workplace) -> None:
    out = work.root / "out"
    for how in ("copy", "delete"):
        with pytest.raises(InvalidArgumentError) as raised:
            await export(work, keyed(CLASH), platform_split="false", mode=how)
        assert raised.value.message == (
            "cannot overwrite same from linux/amd64 with linux/arm64 when split option is disabled"
        )
    assert not out.exists()


@pytest.mark.parametrize("split", ["true", "false"])
async def test_delete_sends_all_platforms_at_once(work: Workplace, split: str) -> None:
    out = work.root / "out"
    output = Out()
    await work.export(LocalExporter({"mode": "delete", "platform-split": split}), keyed(TWO), output=output)
    assert output.deletes == [True]
    assert work.status_ids() == ["copying files"]
    out.mkdir()
    (out / "old").touch()
    found = await export(work, keyed(TWO), platform_split=split, mode=" DELETE ")
    assert list(found) == [entry.path.decode() for entry in output.trees[0]]


async def test_copy_keeps_what_is_there(work: Workplace) -> None:
    out = work.root / "out"
    out.mkdir()
    (out / "old").touch()
    assert set(await export(work, single(layer(tars.entry("x"))))) == {"old", "x"}


@pytest.mark.parametrize(
    ("attrs", "metadata", "times"),
    [
        ({"source_date_epoch": "100"}, {}, (100, 100)),
        ({"source_date_epoch": ""}, {"source.date.epoch": b"7"}, (0, 1_700_000_000)),
        ({}, {"source.date.epoch": b"7"}, (7, 7)),
        ({}, {"source.date.epoch/linux/amd64": b"8"}, (8, 8)),
        ({}, {"source.date.epoch": b""}, (0, 1_700_000_000)),
    ],
)
async def test_epoch(
    work: Workplace, attrs: dict[str, str], metadata: dict[str, bytes], times: tuple[int, int]
) -> None:
    out = work.root / "out"
    await export(work, keyed(TWO, metadata=metadata), **attrs)
    found = [(out / "linux_amd64" / name).stat().st_mtime for name in ("", "amd64")]
    assert tuple(found) == times


async def test_attestations_are_files(work: Workplace) -> None:
    out = work.root / "out"
    source = single(
        layer(
            tars.directory("d"), tars.entry("d/x", b"x"), tars.hardlink("h", "d/x"), tars.symlink("s", "h")
        ),
        attestations={
            "linux/amd64": [
                attestation(),
                attestation("sub/sbom.spdx.json", predicate_type="https://spdx.dev/Document"),
                attestation("inline.json", metadata={"inline-only": b"true"}),
            ]
        },
    )
    found = await export(work, source, attestation_prefix="pre-", source_date_epoch="9")
    assert set(found) == {"d", "d/x", "h", "s", "pre-provenance.json", "pre-sbom.spdx.json"}
    text = found["pre-provenance.json"]
    assert isinstance(text, bytes)
    assert text.startswith(
        b'{\n  "_type": "https://in-toto.io/Statement/v1",\n  "predicateType": "https://slsa'
    )
    statement = json.loads(text)
    digest = {"sha256": digest_bytes(b"x").partition(":")[2]}
    assert statement["subject"] == [{"name": "d/x", "digest": digest}, {"name": "h", "digest": digest}]
    assert b'"predicate": {\n    "n": 1.0\n  }' in text
    assert mode(out / "pre-provenance.json") == 0o600
    assert (out / "pre-provenance.json").stat().st_mtime == 9


async def test_attestations_of_platforms_in_one_directory_have_names_of_their_own(work: Workplace) -> None:
    attested = {platform: [attestation(), attestation("plain")] for platform in PLATFORMS}
    found = await export(work, keyed(TWO, attestations=attested), platform_split="false")
    assert set(found) - {"amd64", "arm64", "d"} == {
        "provenance.linux_amd64.json",
        "provenance.linux_arm64.json",
        "plain.linux_amd64",
        "plain.linux_arm64",
    }
    split = await export(work, keyed(TWO, attestations=attested))
    assert {"linux_amd64/provenance.json", "linux_arm64/plain"} <= set(split)


async def test_an_attestation_hides_a_file_and_not_its_other_names(work: Workplace) -> None:
    files = layer(tars.entry("provenance.json", b"mine"), tars.hardlink("z", "provenance.json"))
    found = await export(work, single(files, attestations={"linux/amd64": [attestation()]}))
    assert found["z"] == b"mine"
    statement = found["provenance.json"]
    assert isinstance(statement, bytes)
    assert [subject["name"] for subject in json.loads(statement)["subject"]] == ["provenance.json", "z"]


@pytest.mark.parametrize(
    ("prefix", "paths", "text"),
    [
        ("", ["a/x.json", "b/x.json"], "duplicate attestation path name x.json"),
        ("nowhere/", ["x.json"], "the build result has no directory nowhere for its attestations"),
        ("file/", ["x.json"], "the build result has no directory file for its attestations"),
        ("../", ["x.json"], "the build result has no directory .. for its attestations"),
        ("", ["full"], "attestation full has the name of a directory: choose another prefix"),
    ],
)
async def test_attestations_whose_path_is_taken_are_refused(
    work: Workplace, prefix: str, paths: list[str], text: str
) -> None:
    out = work.root / "out"
    files = layer(tars.entry("file"), tars.directory("full"), tars.entry("full/x"))
    source = single(files, attestations={"linux/amd64": [attestation(path) for path in paths]})
    with pytest.raises(InvalidArgumentError) as raised:
        await export(work, source, attestation_prefix=prefix)
    assert raised.value.message == text
    assert raised.value.field == "attrs[attestation-prefix]"
    assert not out.exists()


async def test_a_prefix_may_lead_into_a_directory(work: Workplace) -> None:
    source = single(layer(tars.directory("d")), attestations={"linux/amd64": [attestation()]})
    assert set(await export(work, source, attestation_prefix="/d/")) == {"d", "d/provenance.json"}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (replace(keyed(TWO), metadata={}), "unable to export multiple refs, missing platforms mapping"),
        (replace(keyed(TWO), refs=None), "unable to export multiple platforms without map"),
        (replace(keyed(TWO), refs={"a": None, "b": None}), "failed to find ref for ID linux/amd64"),
        (keyed(TWO, metadata={"source.date.epoch": b"x"}), "invalid SOURCE_DATE_EPOCH from frontend"),
    ],
)
@pytest.mark.parametrize("kind", [LocalExporter, TarExporter])
async def test_unsuitable_results_are_refused(
    work: Workplace, source: Source, text: str, kind: type[LocalExporter | TarExporter]
) -> None:
    out = work.root / "out"
    with pytest.raises((ExporterError, ImageError), match=text):
        await work.export(kind({}), source, output=LocalOutput(str(out)))
    assert not out.exists()


@pytest.mark.parametrize("kind", [LocalExporter, TarExporter])
async def test_a_client_is_needed(work: Workplace, kind: type[LocalExporter | TarExporter]) -> None:
    with pytest.raises(FailedPreconditionError, match=f"the {kind.type} exporter sends files to the client"):
        await work.export(kind({}), single(layer(tars.entry("x"))))


@pytest.mark.parametrize("refs", [None, {"linux/amd64": None}])
async def test_without_layers_there_are_no_files(work: Workplace, refs: Any) -> None:
    source = replace(keyed({"linux/amd64": layer()}), ref=None, refs=refs)
    assert await export(work, source) == ({} if refs is None else {"linux_amd64": None})


@pytest.mark.parametrize("how", ["copy", "delete"])
async def test_damaged_layers_change_nothing(work: Workplace, how: str) -> None:
    out = work.root / "out"
    out.mkdir()
    (out / "x").write_text("old")
    good = tars.tar(tars.entry("x", b"new"))
    store = MemoryStore()
    store._blobs[digest_bytes(good)] = good[:-1] + b"!"
    source = single(FakeLayer(good))
    ref = make_ref([FakeLayer(good)], provider=store)
    with pytest.raises(DataLossError):
        await export(work, replace(source, ref=ref), mode=how)
    with pytest.raises(NotFoundError):
        await export(work, replace(source, ref=make_ref([FakeLayer(good)], provider=MemoryStore())), mode=how)
    assert contents(out) == {"x": b"old"}
    assert not list((work.root / "scratch").iterdir())


class Stalled(MemoryStore):
    """Never ends."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = asyncio.Event()

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        yield b"x"
        self.reading.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize("kind", [LocalExporter, TarExporter])
async def test_cancellation_leaves_nothing(work: Workplace, kind: type[LocalExporter | TarExporter]) -> None:
    out = work.root / "out"
    store = Stalled()
    source = replace(single(), ref=make_ref([FakeLayer(b"x" * 100)], provider=store))
    exporting = asyncio.create_task(work.export(kind({}), source, output=LocalOutput(str(out))))
    await store.reading.wait()
    exporting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exporting
    assert not out.exists()
    assert not list((work.root / "scratch").iterdir())


async def test_layers_of_unknown_types(work: Workplace) -> None:
    data = b"x"
    descriptor = Descriptor("application/x-unknown", digest_bytes(data), 1)
    assert descriptor.media_type != OCI_LAYER
    source = single(FakeLayer(data, media_type="application/x-unknown"))
    with pytest.raises(InvalidArgumentError):
        await export(work, source)
