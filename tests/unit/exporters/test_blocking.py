"""Exporters whose `export` blocks."""

from __future__ import annotations

import asyncio
import io
import tarfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from exporter import (
    ArtifactKind,
    BlockingContext,
    BlockingExporter,
    ExportContext,
    Exporter,
    ExportResult,
    FileEntry,
    InvalidArgumentError,
    PluginError,
    Source,
)
from exporter.images import Image
from exporter.testing import MemoryLayer, ProgressLog, Workbench, source_of

SOURCE = source_of(MemoryLayer({"etc/motd": b"hello\n", "big": b"x" * 3_000_000}))


class Blocking(BlockingExporter):
    type = "blocking"
    title = "Blocks"
    artifact = ArtifactKind.ARCHIVE
    name = "exporting while blocking"

    def export(self, source: Source, context: BlockingContext) -> ExportResult:
        raise NotImplementedError


async def test_it_reads_layers_and_writes_a_file() -> None:
    class Names(Blocking):
        def export(self, source: Source, context: BlockingContext) -> ExportResult:
            assert threading.current_thread() is not threading.main_thread()
            image = context.image(source)
            assert isinstance(image, Image)
            with context.progress.status("reading layers"), context.file({"early": "1"}) as file:
                for layer in image.layers:
                    with (
                        context.open(layer.open(uncompressed=True)) as blob,
                        tarfile.open(fileobj=blob, mode="r|") as tar,
                    ):
                        for member in tar:
                            file.write(f"{member.name} {member.size}\n".encode())
                        blob.read()  # to the end, where it is verified
            context.progress.log("done\n")
            return ExportResult(response={"names": "yes"})

    async with Workbench.open() as bench:
        run = await bench.export(Names({}), SOURCE)
    assert sorted(run.output.file_content.decode().splitlines()) == [
        "big 3000000",
        "etc 0",
        "etc/motd 6",
    ]
    assert run.response == {"names": "yes"}
    assert run.progress.statuses[-1] == "reading layers"
    assert run.progress.log == "done\n"


async def test_it_writes_a_directory() -> None:
    class Files(Blocking):
        artifact = ArtifactKind.FILES

        def export(self, source: Source, context: BlockingContext) -> ExportResult:
            context.directory([FileEntry.of("a", b"1"), FileEntry.of("b", b"2")])
            return ExportResult()

    async with Workbench.open() as bench:
        run = await bench.export(Files({}), SOURCE)
    assert {path: file.content for path, file in run.output.directory_files.items()} == {"a": b"1", "b": b"2"}


async def test_it_delegates() -> None:
    class Tar(Blocking):
        def export(self, source: Source, context: BlockingContext) -> ExportResult:
            return context.delegate("oci", source, {"name": "example.com/a:1"})

    async with Workbench.open() as bench:
        run = await bench.export(Tar({}), SOURCE)
    with tarfile.open(fileobj=io.BytesIO(run.output.file_content)) as tar:
        assert "index.json" in tar.getnames()
    assert run.response["image.name"] == "example.com/a:1"


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration(), KeyError("key"), KeyboardInterrupt()])
async def test_errors_are_blamed_on_the_plugin(error: BaseException) -> None:
    class Failing(Blocking):
        def export(self, source: Source, context: BlockingContext) -> ExportResult:
            with context.file() as file:
                file.write(b"half")
                raise error

    async with Workbench.open() as bench:
        with pytest.raises(
            PluginError, match=f'the exporter "blocking" has failed: .*{type(error).__name__}'
        ):
            await bench.export(Failing({}), SOURCE)


async def test_endless_recursion() -> None:
    class Endless(Blocking):
        def export(self, source: Source, context: BlockingContext) -> ExportResult:
            return self.export(source, context)

    async with Workbench.open() as bench:
        with pytest.raises(PluginError, match="has failed: RecursionError: "):
            await bench.export(Endless({}), SOURCE)


async def test_an_error_discards_the_file() -> None:
    class Failing(Blocking):
        def export(self, source: Source, context: BlockingContext) -> ExportResult:
            try:
                with context.file() as file:
                    file.write(b"half")
                    raise KeyError
            except KeyError:
                return ExportResult()

    async with Workbench.open() as bench:
        with pytest.raises(Exception, match="has not committed what it wrote"):
            await bench.export(Failing({}), SOURCE)


async def test_without_a_destination() -> None:
    class Writing(Blocking):
        def export(self, source: Source, context: BlockingContext) -> ExportResult:
            with context.file():
                pass
            return ExportResult()

    async with Workbench.open() as bench:
        with pytest.raises(InvalidArgumentError, match="this type writes files: give it a dest"):
            await bench.export(Writing({}), SOURCE, takes_files=False)


async def test_a_cancelled_export_ends_at_its_next_use_of_the_context() -> None:
    began, proceed = threading.Event(), threading.Event()
    seen: list[str] = []

    class Waiting(Blocking):
        def export(self, source: Source, context: BlockingContext) -> ExportResult:
            began.set()
            proceed.wait(60)
            try:
                context.wait(asyncio.sleep(0))
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise
            return ExportResult()

    async with Workbench.open() as bench:
        export = asyncio.create_task(bench.export(Waiting({}), SOURCE))
        await asyncio.to_thread(began.wait, 60)
        export.cancel()
        await asyncio.sleep(0)
        proceed.set()
        with pytest.raises(asyncio.CancelledError):
            await export
    assert seen == ["cancelled"]


async def test_cancellation_interrupts_a_wait() -> None:
    began = threading.Event()
    left: list[str] = []

    @asynccontextmanager
    async def endless() -> AsyncIterator[None]:
        began.set()
        try:
            yield
        except asyncio.CancelledError:
            left.append("cancelled")
            raise

    class Waiting(Blocking):
        def export(self, source: Source, context: BlockingContext) -> ExportResult:
            with context.entered(endless()):
                context.wait(asyncio.Event().wait())
            return ExportResult()

    async with Workbench.open() as bench:
        export = asyncio.create_task(bench.export(Waiting({}), SOURCE))
        await asyncio.to_thread(began.wait, 60)
        export.cancel()
        with pytest.raises(asyncio.CancelledError):
            await export
    assert left == ["cancelled"]


async def test_the_context_cannot_be_used_on_the_event_loop() -> None:
    class Confused(Exporter):
        type, title, name, artifact = "confused", "Confused", "exporting", ArtifactKind.NONE

        async def export(self, source: Source, context: ExportContext) -> ExportResult:
            BlockingContext(context, asyncio.get_running_loop()).wait(asyncio.sleep(0))
            return ExportResult()

    async with Workbench.open() as bench:
        with pytest.raises(PluginError, match="RuntimeError: a BlockingContext is for the thread"):
            await bench.export(Confused({}), SOURCE)


async def test_any_function_runs_in_a_thread() -> None:
    """An untyped plugin need not know of `BlockingExporter`."""
    threads: list[Any] = []

    def export(self: object, source: Source, context: BlockingContext) -> ExportResult:
        threads.append(threading.current_thread())
        return ExportResult()

    kind = type(
        "Plain", (Exporter,), {"type": "p", "artifact": ArtifactKind.NONE, "name": "p", "export": export}
    )
    async with Workbench.open() as bench:
        await bench.export(kind({}), SOURCE)
    assert threads[0] is not threading.main_thread()
    assert threads[0].daemon


async def test_progress_keeps_its_order() -> None:
    class Talking(Blocking):
        artifact = ArtifactKind.NONE

        def export(self, source: Source, context: BlockingContext) -> ExportResult:
            for number in range(50):
                context.progress.log(f"{number}\n")
            return ExportResult()

    progress = ProgressLog()
    async with Workbench.open() as bench:
        await bench.export(Talking({}), SOURCE, progress=progress)
    assert progress.log == "".join(f"{number}\n" for number in range(50))
