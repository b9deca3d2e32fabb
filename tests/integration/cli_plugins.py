"""Kinds of output that tests of the command line use; processes find them as they find every plugin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from exporter import (
    ArtifactKind,
    Attribute,
    ExportContext,
    Exporter,
    ExportResult,
    FileEntry,
    FinalizeContext,
    Source,
)
from exporter.errors import FailedPreconditionError

TAR = Attribute("tar", "bool", "true", "As of archives of images, which engines load.")


class StalledExporter(Exporter):
    """Sends the beginning of a file, says so in the directory ``control``, and never goes on."""

    type = "stalled"
    title = "Half a file"
    artifact = ArtifactKind.ARCHIVE
    attributes = (TAR,)

    @property
    def name(self) -> str:
        return "exporting half a file"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        control = Path(self.attrs["control"])
        assert context.output is not None
        (context.scratch / "scratched").write_bytes(b"x")
        async with context.output.file({}) as sink:
            with context.progress.status("sending half"):
                await sink.write(b"half" * 1_000_000)
                (control / "started").touch()
                try:
                    await asyncio.Event().wait()
                finally:
                    (control / "stopped").touch()
        raise AssertionError("it never goes on")


class WaitingExporter(Exporter):
    """Creates a file in the directory ``control``, and continues when there is a file ``go``."""

    type = "waiting"
    title = "Nothing, but late"
    artifact = ArtifactKind.NONE

    @property
    def name(self) -> str:
        return "exporting nothing"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        control = Path(self.attrs["control"])
        (control / "started").touch()
        while not (control / "go").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        if "fails" in self.attrs:
            raise FailedPreconditionError("waited in vain")
        return ExportResult(response={"waited": "yes"})


class OrderedExporter(Exporter):
    """Writes down when it exports and when it publishes; ``fails`` names the one that does not work."""

    type = "ordered"
    title = "A line for each call"
    artifact = ArtifactKind.NONE

    @property
    def name(self) -> str:
        return f"exporting {self.attrs['label']}"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        self._write("export")
        return ExportResult(
            response={"label": self.attrs["label"], self.attrs["label"]: "exported"}, finalize=self._finalize
        )

    async def _finalize(self, context: FinalizeContext) -> Mapping[str, str]:
        self._write("finalize")
        return {self.attrs["label"]: "finalized"}

    def _write(self, what: str) -> None:
        if self.attrs.get("fails") == what:
            raise RuntimeError(f"cannot {what}")
        with Path(self.attrs["log"]).open("a") as log:
            log.write(f"{what} {self.attrs['label']}\n")


class FailingExporter(Exporter):
    """Sends a whole file, commits it if ``commit`` is there, and fails after that."""

    type = "failing"
    title = "A file that is of no use"
    artifact = ArtifactKind.ARCHIVE
    attributes = (TAR,)

    @property
    def name(self) -> str:
        return "exporting what is of no use"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        assert context.output is not None
        async with context.output.file({}) as sink:
            await sink.write(b"file" * 1_000_000)
            if "commit" in self.attrs:
                await sink.commit()
        raise FailedPreconditionError("it is of no use")


class EndlessContent:
    """Arrives slowly, and never ends."""

    def pieces(self) -> Iterator[bytes]:
        while True:
            yield b"x" * 1000
            time.sleep(0.01)


class EndlessExporter(Exporter):
    """Sends a file, and another one that never ends, of which it says so in the directory ``control``."""

    type = "endless"
    title = "A directory that is never complete"
    artifact = ArtifactKind.FILES

    @property
    def name(self) -> str:
        return "exporting without end"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        assert context.output is not None
        control = Path(self.attrs["control"])
        endless = FileEntry(path=b"endless", size=1 << 40, content=EndlessContent())
        try:
            await context.output.directory(
                [FileEntry.of("a-file", b"whole"), endless],
                delete=True,
                on_sent=lambda _: (control / "started").touch(),
            )
        finally:
            (control / "stopped").touch()
        raise AssertionError("it never goes on")


PLUGINS = (EndlessExporter, FailingExporter, OrderedExporter, StalledExporter, WaitingExporter)
