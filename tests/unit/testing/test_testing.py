"""The test support for authors of exporters must be as strict as the real environment."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from exporter import (
    ArtifactKind,
    ExportContext,
    Exporter,
    ExportResult,
    FailedPreconditionError,
    FileEntry,
    FileKind,
    FinalizeContext,
    InvalidArgumentError,
    LayerMetadata,
    NotFoundError,
    PluginError,
    Source,
    UnavailableError,
    default_registry,
    read_blob,
)
from exporter.content import run_in_thread
from exporter.image.keys import IMAGE_NAME
from exporter.testing import (
    MemoryLayer,
    MemoryRegistry,
    ProgressLog,
    PushedImage,
    Workbench,
    load_sample,
    ref_of,
    sample_names,
    source_of,
)


class Probe(Exporter):
    """Creates the artifact that its attributes name."""

    type = "probe"
    title = "Probe"
    artifact: ClassVar[ArtifactKind] = ArtifactKind.ARCHIVE

    @property
    def name(self) -> str:
        return "probing"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        assert context.output is not None
        async with context.output.file({"told": "first"}) as file:
            await file.write(b"one")
            await file.write(b"two")
            if "commit" in self.attrs:
                await file.commit()
        return ExportResult()


class Tree(Probe):
    type = "tree"
    artifact = ArtifactKind.FILES
    entries: tuple[FileEntry, ...] = ()

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        assert context.output is not None
        await context.output.directory(self.entries)
        return ExportResult()


class Publisher(Probe):
    type = "publisher"
    artifact = ArtifactKind.NONE
    attempts = 0

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        (context.scratch / "artifact").write_bytes(b"artifact")

        async def publish(finalizing: FinalizeContext) -> Mapping[str, str]:
            self.attempts += 1
            if self.attempts == 1:
                raise UnavailableError("the service is away")
            with finalizing.progress.status("uploading"):
                return {"bytes": (context.scratch / "artifact").read_text()}

        return ExportResult(response={"made": "1"}, finalize=publish)


def test_layers_in_memory() -> None:
    layer = MemoryLayer({"etc/app/b": b"2", "a": b"1"})
    with tarfile.open(fileobj=io.BytesIO(layer.tar())) as archive:
        assert archive.getnames() == ["etc", "etc/app", "a", "etc/app/b"]
        assert {entry.mtime for entry in archive} == {1714979289}
    assert layer.tar() == MemoryLayer({"a": b"1", "etc/app/b": b"2"}).tar()
    for path in ("/etc/passwd", "../etc/passwd"):
        with pytest.raises(ValueError, match="not a path within a layer"):
            MemoryLayer({path: b""}).tar()


async def test_a_ref_has_layers_and_their_metadata() -> None:
    one, two = MemoryLayer({"a": b"1"}, "RUN one"), MemoryLayer({"b": b"2"}, "RUN two", None)
    ref = ref_of(one, two)
    remote = await ref.remote()
    assert [await read_blob(remote.provider, descriptor) for descriptor in remote.descriptors] == [
        one.tar(),
        two.tar(),
    ]
    assert remote.diff_ids == tuple(descriptor.digest for descriptor in remote.descriptors)
    assert [layer.metadata() for layer in await ref.layer_chain()] == [
        LayerMetadata(description="RUN one", created_at=one.created_at),
        LayerMetadata(description="RUN two", created_at=None),
    ]


def test_sources() -> None:
    layer = MemoryLayer()
    assert source_of() == Source()
    assert source_of(config=b"{}").metadata == {"containerimage.config": b"{}"}
    keyed = source_of(platforms={"linux/amd64": [layer], "linux/arm64": []}, metadata={"a": b"b"})
    assert keyed.ref is None
    assert keyed.refs is not None
    assert keyed.refs["linux/arm64"] is None
    assert keyed.refs["linux/amd64"] is not None
    assert keyed.metadata == {"a": b"b"}
    with pytest.raises(ValueError, match="either"):
        source_of(layer, platforms={})


async def test_samples() -> None:
    for name in sample_names():
        source = (await load_sample(name)).source
        assert (source.ref is None) != (source.refs is None)
    with pytest.raises(NotFoundError, match="there is no sample 'none'"):
        await load_sample("none")


async def test_only_committed_files_are_kept() -> None:
    async with Workbench.open() as bench:
        run = await bench.export(Probe({"commit": ""}), source_of())
        assert run.output.file_content == b"onetwo"
        assert run.output.responses == [{"told": "first"}]
        progress = ProgressLog()
        with pytest.raises(FailedPreconditionError, match="has not committed what it wrote"):
            await bench.export(Probe({}), source_of(), progress=progress)
        assert progress.vertex is not None
        assert progress.vertex.name == "probing"
        assert "has not committed" in progress.vertex.error


async def test_clients_that_take_no_files() -> None:
    async with Workbench.open() as bench:
        with pytest.raises(PluginError, match="AssertionError"):
            await bench.export(Probe({}), source_of(), takes_files=False)


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ((FileEntry.of("b", b""), FileEntry.of("a", b"")), "out of order"),
        ((FileEntry.of("../a", b""),), "unclean path"),
        ((FileEntry(path=b"a", size=3),), "a has 0 bytes, and 3 in its entry"),
    ],
)
async def test_directories_are_as_strict_as_those_of_users(
    entries: tuple[FileEntry, ...], problem: str
) -> None:
    exporter = Tree({})
    exporter.entries = entries
    async with Workbench.open() as bench:
        with pytest.raises(InvalidArgumentError, match=problem):
            await bench.export(exporter, source_of())


async def test_a_directory() -> None:
    exporter = Tree({})
    exporter.entries = (
        FileEntry(path=b"d", kind=FileKind.DIRECTORY, mode=0o755),
        FileEntry.of("d/f", b"content"),
        FileEntry(path=b"l", kind=FileKind.SYMLINK, link=b"d/f"),
    )
    async with Workbench.open() as bench:
        files = (await bench.export(exporter, source_of())).output.directory_files
    assert {path: file.content for path, file in files.items()} == {"d": b"", "d/f": b"content", "l": b""}
    assert files["l"].entry.link == b"d/f"


async def test_finalizing_can_be_repeated_and_scratch_files_live_until_it_has_succeeded(
    tmp_path: Path,
) -> None:
    async with Workbench.open(tmp_path) as bench:
        run = await bench.export(Publisher({}), source_of())
        with pytest.raises(UnavailableError):
            await bench.finalize(run)
        await bench.finalize(run)
        assert run.response == {"made": "1", "bytes": "artifact"}
        assert run.progress.statuses == ["uploading"]
        assert not run.progress.unfinished
        other = await bench.export(Publisher({}), source_of())
        await bench.discard(other)
        with pytest.raises(NotFoundError):
            await bench.finalize(other)
        await bench.export(Publisher({}), source_of())  # neither: it is dropped at the end
    assert not await run_in_thread(lambda: list(tmp_path.rglob("artifact")))


async def test_built_in_types_run_on_the_bench() -> None:
    registry = default_registry()
    async with Workbench.open() as bench:
        sample = await load_sample()
        run = await bench.export(registry.make("oci", {"tar": "false", "name": "app"}), sample)
        (layout,) = run.output.layouts
        (image,) = layout.images
        assert image.root == run.descriptor
        manifest = json.loads(await read_blob(layout.store, image.root))
        assert len(manifest["layers"]) > 1
        assert run.response[IMAGE_NAME] == "docker.io/library/app:latest"

        stored = await bench.export(registry.make("image", {"name": "app"}), sample)
        assert stored.descriptor is not None
        found = await bench.store.resolve("app")
        assert found.digest == stored.descriptor.digest

        moby = await bench.export(registry.make("moby", {"name": "app"}), sample)
        assert moby.response["containerimage.digest"] in [image.id for image in await bench.images.list()]

        files = await bench.export(registry.make("local", {}), source_of(MemoryLayer({"etc/motd": b"hello"})))
        assert files.output.directory_files["etc/motd"].content == b"hello"


async def test_pushes_go_into_memory_and_can_fail_at_first() -> None:
    registry = MemoryRegistry(failures=[UnavailableError("the registry is away")])
    exporter = default_registry().make("registry", {"name": "example.com/app:1"})
    async with Workbench.open(pusher=registry) as bench:
        run = await bench.export(exporter, await load_sample())
        assert not registry.pushes, "a push is part of finalizing"
        with pytest.raises(UnavailableError, match="failed to push example.com/app:1: the registry is away"):
            await bench.finalize(run)
        await bench.finalize(run)
    assert run.descriptor is not None
    assert registry.pushes == [PushedImage(run.descriptor, "example.com/app:1")]
    manifest = json.loads(await read_blob(registry.store, run.descriptor))
    present = {blob.digest for blob in registry.store.blobs()}
    assert {layer["digest"] for layer in manifest["layers"]} < present
