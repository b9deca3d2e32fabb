"""What plugins print, and plugins that block the event loop."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import threading
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from exporter import (
    ArtifactKind,
    BlockingContext,
    BlockingExporter,
    ExportContext,
    Exporter,
    ExportResult,
    FinalizeContext,
    PluginError,
    Source,
)
from exporter.exporters import attended
from exporter.exporters.registry import ENTRY_POINT_GROUP, Registry
from exporter.testing import Workbench, source_of


class Printing(Exporter):
    type, title, name, artifact = "printing", "Prints", "exporting aloud", ArtifactKind.NONE

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        print("one\ntwo", flush=True)
        await asyncio.gather(_print("three"), asyncio.to_thread(print, "four", end=""))
        print(f" ({sys.stdout.encoding})")

        async def finalize(context: FinalizeContext) -> dict[str, str]:
            print("published")
            return {}

        return ExportResult(finalize=finalize)


async def _print(text: str) -> None:
    print(text)


async def test_output_goes_to_the_log_of_the_export(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    async with Workbench.open() as bench:
        run = await bench.export(Printing({}), source_of())
        print("ours")
        await bench.finalize(run)
    assert run.progress.log.splitlines()[:3] == ["one", "two", "three"]
    assert "four" in run.progress.log
    assert run.progress.log.splitlines()[-1] == "published"
    assert capsys.readouterr() == ("ours\n", "")
    assert sys.stdout is before


async def test_concurrent_output_of_others_is_not_captured(capsys: pytest.CaptureFixture[str]) -> None:
    began, proceed = threading.Event(), threading.Event()

    class Loud(BlockingExporter):
        type, title, name, artifact = "loud", "Loud", "exporting", ArtifactKind.NONE

        def export(self, source: Source, context: BlockingContext) -> ExportResult:
            print("from a thread")
            began.set()
            proceed.wait(60)
            return ExportResult()

    async with Workbench.open() as bench:
        export = asyncio.create_task(bench.export(Loud({}), source_of()))
        await asyncio.to_thread(began.wait, 60)
        print("ours")
        proceed.set()
        run = await export
    assert run.progress.log == "from a thread\n"
    assert capsys.readouterr().out == "ours\n"


def test_an_archive_on_standard_output_is_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    binary = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(binary))
    with attended.printing_to_log("it"):
        sys.stdout.buffer.write(b"archive")
    assert binary.getvalue() == b"archive"


@pytest.fixture(autouse=True)
def no_other_handlers(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Commands that ran in this process leave handlers that write to streams of earlier tests."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [caplog.handler])


def test_output_before_the_export(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "early.py"
    path.write_text(
        "from exporter import Exporter\n"
        "print('imported')\n"
        "class Early(Exporter):\n"
        "    type, title, name = 'early', 'Early', 'exporting'\n"
        "    def __init__(self, attrs):\n"
        "        super().__init__(attrs)\n"
        "        print('made', end='')\n"
        "    async def export(self, source, context): ...\n"
    )
    Registry(files=[path]).make("early", {})
    messages = [record.getMessage() for record in caplog.records]
    assert [message for message in messages if "printed" in message] == [
        f"file {path} printed: imported",
        'the exporter "early" printed: made',
    ]
    assert capsys.readouterr() == ("", "")


class Stuck(Exporter):
    type, title, name, artifact = "stuck", "Stuck", "exporting", ArtifactKind.NONE
    told = threading.Event()

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        self.told.wait(60)
        return ExportResult()


async def test_code_that_blocks_the_loop_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            Stuck.told.set()

    monkeypatch.setattr(attended, "PATIENCE_SECONDS", 0.05)
    kind = Registry([EntryPoint("stuck", f"{__name__}:Stuck", ENTRY_POINT_GROUP)]).get("stuck")
    handler = Handler()
    attended.logger.addHandler(handler)
    try:
        async with Workbench.open() as bench:
            await bench.export(kind({}), source_of())
    finally:
        attended.logger.removeHandler(handler)
    assert Stuck.told.is_set()
    text = caplog.records[0].getMessage()
    assert text.startswith('the exporter "stuck" has been blocking the event loop for more than 0.05 s, in ')
    assert f"{__file__}, line " in text


async def test_a_task_cannot_end_the_process() -> None:
    class Leaving(Exporter):
        type, title, name, artifact = "leaving", "Leaves", "exporting", ArtifactKind.NONE

        async def export(self, source: Source, context: ExportContext) -> ExportResult:
            never = asyncio.create_task(_leave())
            never.cancel()
            await asyncio.gather(_leave(), asyncio.sleep(0))
            return ExportResult()

    async def _leave() -> None:
        sys.exit("no licence")

    factory = asyncio.get_running_loop().get_task_factory()
    async with Workbench.open() as bench:
        with pytest.raises(PluginError, match=r"TaskExitError: a task raised SystemExit: no licence$"):
            await bench.export(Leaving({}), source_of())
    assert asyncio.get_running_loop().get_task_factory() is factory
