"""`ExportContext.write`: an image to wherever the output of an export goes."""

from __future__ import annotations

import io
import tarfile

from exporter.exporters.base import ArtifactKind, ExportContext, Exporter, ExportResult
from exporter.exporters.blocking import BlockingContext, BlockingExporter
from exporter.source.types import Source
from exporter.testing import MemoryLayer, MemoryRegistry, Workbench, load_sample, source_of
from exporter.verify import Checklist, ImageVerifier

LAYERS = (MemoryLayer({"a": b"1"}), MemoryLayer({"b": b"2"}))
CONFIG = b'{"architecture":"amd64","os":"linux"}'


class _Labelled(Exporter):
    type = "labelled"
    title = "Sets a label"
    artifact = ArtifactKind.NONE
    name = "labelling"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        image = await (await context.image(source)).map(lambda one: one.with_labels({"a": "b"}))
        result = await context.write(image, attrs=self.attrs)
        if not source.refs:
            assert result.descriptor is not None
            assert result.descriptor.digest == image.digest
        return result


class _InAThread(BlockingExporter):
    type = "in-a-thread"
    title = "Writes the image as it is"
    artifact = ArtifactKind.NONE
    name = "writing"

    def export(self, source: Source, context: BlockingContext) -> ExportResult:
        return context.write(context.image(source), "docker", self.attrs)


async def test_an_archive() -> None:
    async with Workbench.open() as bench:
        run = await bench.export(_Labelled({"name": "x:y"}), source_of(*LAYERS, config=CONFIG))
        assert run.response["image.name"] == "docker.io/library/x:y"
        with tarfile.open(fileobj=io.BytesIO(run.output.file_content)) as archive:
            assert "index.json" in archive.getnames()
        run = await bench.export(_InAThread({}), source_of(*LAYERS, config=CONFIG))
        with tarfile.open(fileobj=io.BytesIO(run.output.file_content)) as archive:
            assert "manifest.json" in archive.getnames()


async def test_a_layout_with_an_index() -> None:
    async with Workbench.open() as bench:
        run = await bench.export(_Labelled({"tar": "false"}), await load_sample("multi-platform"))
        (layout,) = run.output.layouts
        (published,) = layout.images
        checklist = Checklist()
        await ImageVerifier(layout.store, checklist).image(published.root, "labelled")
        assert (await checklist.finish()).is_ok


async def test_the_store_if_the_client_accepts_no_files() -> None:
    async with Workbench.open() as bench:
        source = source_of(*LAYERS, config=CONFIG)
        run = await bench.export(_Labelled({"name": "example.com/x:y"}), source, takes_files=False)
        assert run.descriptor is not None
        assert (await bench.store.info(run.descriptor.digest)).size == run.descriptor.size
        assert run.response["image.name"] == "example.com/x:y"


async def test_a_registry() -> None:
    registry = MemoryRegistry()
    async with Workbench.open(pusher=registry) as bench:
        attrs = {"name": "example.com/x:y", "push": "true"}
        run = await bench.export(_Labelled(attrs), source_of(*LAYERS, config=CONFIG))
        assert not registry.pushes
        await bench.finalize(run)
        assert [push.name for push in registry.pushes] == ["example.com/x:y"]
