"""The fixtures and assertions for tests of exporters."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from exporter import ArtifactKind, ExportContext, Exporter, ExportResult, FinalizeContext, SavedSource, Source
from exporter.exporters.oci import OCIExporter
from exporter.image import Descriptor
from exporter.testing import (
    BlockingWorkbench,
    MemoryLayer,
    Workbench,
    assert_image_valid,
    assert_reproducible,
    sample_names,
    source_of,
)

SOURCE = source_of(MemoryLayer({"etc/motd": b"hello\n"}))
EPOCH = {"source-date-epoch": "0", "name": "example.com/a:1"}


class Counting(Exporter):
    type, title, name, artifact = "counting", "Counts", "exporting", ArtifactKind.ARCHIVE
    numbers: Iterator[int] = itertools.count()

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        assert context.output is not None
        async with context.output.file({}) as file:
            await file.write(f"{next(self.numbers)}".encode())
            await file.commit()

        async def finalize(context: FinalizeContext) -> dict[str, str]:
            return {"published": "yes"}

        return ExportResult(finalize=finalize)


@pytest.mark.parametrize("attrs", [{}, {"tar": "false"}])
async def test_valid_images(attrs: dict[str, str]) -> None:
    async with Workbench.open() as bench:
        await assert_image_valid(await bench.export(OCIExporter({**EPOCH, **attrs}), SOURCE))


async def test_an_image_in_the_store() -> None:
    from exporter.exporters.image import ImageExporter

    async with Workbench.open() as bench:
        await assert_image_valid(await bench.export(ImageExporter(EPOCH), SOURCE))


async def test_an_image_that_is_not_valid() -> None:
    async with Workbench.open() as bench:
        run = await bench.export(OCIExporter({**EPOCH, "tar": "false"}), SOURCE)
        (image,) = run.output.layouts[0].images
        broken = Descriptor(image.root.media_type, image.root.digest, image.root.size + 1)
        run.output.layouts[0].images[0] = type(image)(broken, image.names)
        with pytest.raises(
            AssertionError, match=r"the image is not valid:\nexample.com/a:1 .*: it has 473 bytes, "
        ):
            await assert_image_valid(run)


async def test_no_image() -> None:
    async with Workbench.open() as bench:
        run = await bench.export(Counting({}), SOURCE)
        with pytest.raises(AssertionError, match="the export has not made an image"):
            await assert_image_valid(run)


async def test_reproducible() -> None:
    await assert_reproducible(OCIExporter({**EPOCH, "tar": "false"}), SOURCE)
    with pytest.raises(AssertionError, match="a second export differs in: file 0$"):
        await assert_reproducible(Counting({}), SOURCE)


def test_a_workbench_without_asyncio(workbench: BlockingWorkbench) -> None:
    run = workbench.export(OCIExporter(EPOCH), workbench.load_sample("multi-platform"))
    workbench.assert_image_valid(run)
    counted = workbench.export(Counting({}), SOURCE)
    workbench.finalize(counted)
    assert counted.response == {"published": "yes"}
    with pytest.raises(AssertionError, match="differs in: file 0"):
        workbench.assert_reproducible(Counting({}), SOURCE)


def test_samples(build_samples: Mapping[str, SavedSource], workbench: BlockingWorkbench) -> None:
    assert sorted(build_samples) == sorted(sample_names())
    run = workbench.export(OCIExporter(EPOCH), build_samples["multi-platform"])
    workbench.assert_image_valid(run)


def test_a_server(exporter_server: str, build_samples: Mapping[str, SavedSource], tmp_path: Path) -> None:
    command = Path(sys.executable).parent / "buildkit-exporter"
    listed = subprocess.run(
        [command, "exporters", "--addr", exporter_server], capture_output=True, text=True, check=False
    )
    assert listed.returncode == 0, listed.stderr
    assert "oci" in listed.stdout


def test_pytest_finds_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent("""
            def test_it(workbench, build_samples):
                assert workbench and build_samples
        """)
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
