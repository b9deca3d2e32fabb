"""The exporter `squash`, and the parts of the context that it is made of."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from exporter.content.copy import read_blob
from exporter.content.manifest import children
from exporter.errors import ImageError, InvalidArgumentError, NotFoundError
from exporter.exporters.base import ArtifactKind, ExportContext, Exporter, ExportResult
from exporter.exporters.squash import SquashExporter
from exporter.image.keys import IMAGE_BASE_CONFIG, REFERENCE_DIGEST
from exporter.image.media_types import DOCKER_MANIFEST, OCI_LAYER_ZSTD
from exporter.images import Image, Workshop
from exporter.images.reading import read_image
from exporter.layer.entry import FileEntry
from exporter.source.saved.load import SavedSource
from exporter.source.types import Attestation, AttestationKind, Source, Subject, SubjectKind
from exporter.testing import MemoryLayer, MemoryRegistry, Run, Workbench, load_sample, source_of
from exporter.testing.output import MemoryLayout
from exporter.verify import Checklist, ImageVerifier
from tests.builds import scenario
from tests.unit.exporters.harness import VERTEX, Workplace
from tests.unit.images.test_recorded_builds import COMPLETE
from tests.unit.images.trees import tree_of

LAYERS = (MemoryLayer({"a": b"1"}), MemoryLayer({"a": b"2", "b": b"3"}), MemoryLayer({"c": b"4"}))
CONFIG = b'{"architecture":"amd64","os":"linux"}'


async def squash(bench: Workbench, source: Source | SavedSource, **attrs: str) -> tuple[Run, MemoryLayout]:
    run = await bench.export(SquashExporter({"tar": "false", **attrs}), source)
    (layout,) = run.output.layouts
    return run, layout


async def images_in(layout: MemoryLayout, scratch: Path) -> dict[str, Image]:
    (published,) = layout.images
    image = await read_image(layout.store, published.root, Workshop(scratch))
    return dict(image.images)


async def check(layout: MemoryLayout) -> None:
    """All digests and diff IDs are right."""
    checklist = Checklist()
    verifier = ImageVerifier(layout.store, checklist)
    for image in layout.images:
        await verifier.image(image.root, "squashed")
    report = await checklist.finish()
    assert report.is_ok, report.results


@pytest.mark.parametrize("name", COMPLETE)
async def test_every_recorded_build(name: str, tmp_path: Path) -> None:
    async with Workbench.open() as bench:
        saved = await SavedSource.open(scenario(name))
        run, layout = await squash(bench, saved)
        await check(layout)
        assert run.descriptor is not None
        context = await Workplace(tmp_path).context(build=saved.build)
        originals = (await context.image(saved.source)).images
        squashed = await images_in(layout, tmp_path)
        for image, original in zip(squashed.values(), originals.values(), strict=True):
            kept = original.base_layers
            assert image.diff_ids[:kept] == original.diff_ids[:kept]
            assert len(image.layers) == min(kept + 1, len(original.layers))
            assert await tree_of(image) == await tree_of(original)


async def test_progress_shows_only_the_image_that_is_written() -> None:
    async with Workbench.open() as bench:
        run, _ = await squash(bench, source_of(*LAYERS, config=CONFIG))
        assert run.descriptor is not None
        told = [text for text in run.progress.statuses if text.startswith("exporting manifest")]
        assert told == [f"exporting manifest {run.descriptor.digest}"]
        assert "squashing layers" in run.progress.statuses


@pytest.mark.parametrize(("attrs", "layers"), [({}, 1), ({"above": "1"}, 2), ({"above": "3"}, 3)])
async def test_layers_of_the_base_can_be_kept(attrs: dict[str, str], layers: int, tmp_path: Path) -> None:
    async with Workbench.open() as bench:
        _, layout = await squash(bench, source_of(*LAYERS, config=CONFIG), **attrs)
        (image,) = (await images_in(layout, tmp_path)).values()
        assert len(image.layers) == layers
        async with image.files() as files:
            assert [await files.read(name) for name in "abc"] == [b"2", b"3", b"4"]


async def test_the_base_comes_from_the_metadata_of_the_build(tmp_path: Path) -> None:
    source = source_of(*LAYERS, config=CONFIG)
    assert source.ref is not None
    base = (await source.ref.remote()).diff_ids[0]
    metadata = {IMAGE_BASE_CONFIG: json.dumps({"rootfs": {"diff_ids": [base]}}).encode()}
    async with Workbench.open() as bench:
        _, layout = await squash(bench, source.with_metadata(metadata))
        (image,) = (await images_in(layout, tmp_path)).values()
        assert len(image.layers) == 2
        assert image.diff_ids[0] == base
        other = {IMAGE_BASE_CONFIG: json.dumps({"rootfs": {"diff_ids": [VERTEX]}}).encode()}
        _, layout = await squash(bench, source.with_metadata(other))
        (image,) = (await images_in(layout, tmp_path)).values()
        assert len(image.layers) == 1


async def test_the_image_is_written_by_the_type_in_to() -> None:
    registry = MemoryRegistry()
    async with Workbench.open(pusher=registry) as bench:
        source = source_of(*LAYERS, config=CONFIG)
        run = await bench.export(SquashExporter({"to": "docker", "name": "x:y"}), source)
        assert run.response["image.name"] == "docker.io/library/x:y"
        with tarfile.open(fileobj=io.BytesIO(run.output.file_content)) as archive:
            manifest = archive.extractfile("manifest.json")
            assert manifest is not None
            (image,) = json.load(manifest)
        assert len(image["Layers"]) == 1
        run = await bench.export(SquashExporter({"to": "image", "name": "x:y"}), source)
        assert run.descriptor is not None
        await read_blob(bench.store, run.descriptor)
        run = await bench.export(SquashExporter({"to": "registry", "name": "example.com/x:y"}), source)
        assert run.token
        await bench.finalize(run)
        assert [push.name for push in registry.pushes] == ["example.com/x:y"]
        kinds = {to: SquashExporter({"to": to}).creates for to in ("oci", "docker", "image", "registry")}
        assert list(kinds.values()) == [ArtifactKind.ARCHIVE] * 2 + [ArtifactKind.IMAGE] * 2
        assert SquashExporter({"to": "image"}).needs_store
        assert not SquashExporter({}).needs_store


async def test_attributes_are_passed_to_the_writing_type(tmp_path: Path) -> None:
    async with Workbench.open() as bench:
        source = source_of(*LAYERS, config=CONFIG)
        _, layout = await squash(
            bench,
            source,
            **{"compression": "zstd", "source-date-epoch": "1000", "rewrite-timestamp": "true"},
            **{"annotation.a": "b"},
        )
        await check(layout)
        (image,) = (await images_in(layout, tmp_path)).values()
        assert [layer.media_type for layer in image.layers] == [OCI_LAYER_ZSTD]
        assert image.annotations == {"a": "b"}
        assert {file.mtime for file in (await tree_of(image)).values()} == {1000 * 10**9}
        assert image.created is not None
        assert image.created.unix == 1000
        _, layout = await squash(bench, source, **{"oci-mediatypes": "false"})
        await check(layout)
        (image,) = (await images_in(layout, tmp_path)).values()
        assert image.media_type == DOCKER_MANIFEST
        _, layout = await squash(bench, source, **{"compression": "estargz", "force-compression": "true"})
        await check(layout)


@pytest.mark.parametrize(
    ("attrs", "text"),
    [
        ({"to": "tar"}, '"tar" is not one of oci, docker, image, registry'),
        ({"above": "-1"}, "above=-1 is neither a number of layers nor a digest"),
        ({"compression": "lzma"}, "unsupported compression type lzma"),
    ],
)
def test_wrong_attributes_are_refused_before_the_build(attrs: Mapping[str, str], text: str) -> None:
    with pytest.raises((InvalidArgumentError, ImageError), match=text):
        SquashExporter(attrs)


# --- attestations ---


SBOM, PROVENANCE = "https://spdx.dev/Document", "https://example.com/provenance"


def attested() -> Source:
    def attestation(path: str, kind: str, reason: bytes) -> Attestation:
        content = b'{"files":[],"packages":[]}'
        subjects = (Subject(SubjectKind.SELF),)
        return Attestation(AttestationKind.IN_TOTO, path, kind, subjects, {"reason": reason}, content=content)

    attestations = [
        attestation("sbom.json", SBOM, b"sbom"),
        attestation("provenance.json", PROVENANCE, b"provenance"),
    ]
    return source_of(*LAYERS, config=CONFIG, attestations={"linux/amd64": attestations})


async def statements(layout: MemoryLayout) -> tuple[str, dict[str, list[str]]]:
    """The digest of the only image, and the digests of the subjects by predicate type."""
    (published,) = layout.images
    image, manifest = children(published.root, await read_blob(layout.store, published.root))
    assert manifest.annotations[REFERENCE_DIGEST] == image.digest
    _, *layers = children(manifest, await read_blob(layout.store, manifest))
    found = {}
    for layer in layers:
        statement = json.loads(await read_blob(layout.store, layer))
        digests = [f"sha256:{subject['digest']['sha256']}" for subject in statement["subject"]]
        found[statement["predicateType"]] = digests
    return image.digest, found


async def test_attestations_are_about_the_squashed_image() -> None:
    async with Workbench.open() as bench:
        _, layout = await squash(bench, attested(), name="x:y")
        await check(layout)
        digest, found = await statements(layout)
        assert found == {SBOM: [digest], PROVENANCE: [digest]}


class _Adding(Exporter):
    type = "adding"
    title = "Adds a layer"
    artifact = ArtifactKind.ARCHIVE
    name = "adding"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        image = await context.image(source)
        changed = await image.map(lambda one: one.append_layer([FileEntry.of("new", b"1")], created_by="me"))
        return await context.delegate("oci", changed.source(), self.attrs)


async def test_an_sbom_of_other_files_is_left_out(tmp_path: Path) -> None:
    async with Workbench.open() as bench:
        run = await bench.export(_Adding({"tar": "false", "name": "x:y"}), attested())
        (layout,) = run.output.layouts
        await check(layout)
        digest, found = await statements(layout)
        assert found == {PROVENANCE: [digest]}


# --- delegation ---


async def test_platforms_stay_apart(tmp_path: Path) -> None:
    async with Workbench.open() as bench:
        run = await bench.export(_Adding({"tar": "false"}), await load_sample("multi-platform"))
        (layout,) = run.output.layouts
        await check(layout)
        images = await images_in(layout, tmp_path)
        assert set(images) == {"linux/amd64", "linux/arm64"}
        for image in images.values():
            assert image.history[-1].created_by == "me"
            assert (await tree_of(image))[b"new"].size == 1
            assert image.platform.architecture in image.images.popitem()[0]


class _Stripping(_Adding):
    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        image = await context.image(source)
        changed = await image.map(lambda one: one.without_history().with_fields({"zzz": 1, "aaa": 2}))
        return await context.delegate("oci", changed.source(), self.attrs)


async def test_the_writing_type_does_not_change_the_image(tmp_path: Path) -> None:
    """It does not fit the history to the layers again, nor sort keys."""
    async with Workbench.open() as bench:
        run = await bench.export(_Stripping({"tar": "false"}), source_of(*LAYERS, config=CONFIG))
        (layout,) = run.output.layouts
        (image,) = (await images_in(layout, tmp_path)).values()
        assert not image.history
        assert list(json.loads(image.config))[-2:] == ["zzz", "aaa"]


async def test_delegation_to_an_unknown_type(tmp_path: Path) -> None:
    context = await Workplace(tmp_path).context()
    with pytest.raises(NotFoundError, match='exporter "nothing" could not be found'):
        await context.delegate("nothing", Source())
