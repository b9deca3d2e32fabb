"""Kinds of output for tests: they run in the server's process, and wait where a test wants them to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from exporter import (
    ArtifactKind,
    Attribute,
    ExportContext,
    Exporter,
    ExportResult,
    FinalizeContext,
    Source,
    UnavailableError,
)
from exporter.image import Descriptor, digest_bytes


def peak_memory() -> str:
    """KiB."""
    return Path("/proc/self/status").read_text(encoding="ascii").split("VmHWM:")[1].split()[0]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class SwitchedExporter(Exporter):
    """Base of those that are controlled through files in the directory ``control``."""

    artifact = ArtifactKind.NONE

    def __init__(self, attrs: Mapping[str, str]) -> None:
        super().__init__(attrs)
        self.control = Path(attrs.get("control", "/nonexistent"))

    @property
    def name(self) -> str:
        return f"testing {self.type}"

    def tell(self, word: str) -> None:
        (self.control / word).touch()

    async def wait(self, word: str) -> None:
        while not (self.control / word).exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)


class BlockingExporter(SwitchedExporter):
    """Creates everything that can be left behind, and then waits for ``go``."""

    type = "test-blocking"
    title = "Waits"
    attributes = (Attribute("control", "string", "", "Directory to be controlled by."),)

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        (context.scratch / "scratched").write_bytes(b"x" * 1000)
        data = b"half a blob"
        descriptor = Descriptor("application/octet-stream", digest_bytes(data), len(data))
        async with context.store.ingest(descriptor) as writer:
            await writer.write(data[:4])
            with context.progress.status("blocking"):
                self.tell("started")
                try:
                    await self.wait("go")
                finally:
                    await asyncio.sleep(0)
                    self.tell("stopped")
            await writer.write(data[4:])
            await writer.commit()
        return ExportResult(response={"blocked": "no more"})


class FinalizingExporter(SwitchedExporter):
    """Publishes a file; fails as often as ``failures`` says, and waits for ``publish`` if ``wait`` is set."""

    type = "test-finalizing"
    title = "Has something to publish"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        artifact = context.scratch / "artifact"
        artifact.write_bytes(b"published")
        failures = int(self.attrs.get("failures", "0"))
        attempts = 0

        async def finalize(finalizing: FinalizeContext) -> Mapping[str, str]:
            nonlocal attempts
            attempts += 1
            with finalizing.progress.status("publishing"):
                self.tell("finalizing")
                if self.attrs.get("wait"):
                    try:
                        await self.wait("publish")
                    finally:
                        self.tell("waited")
                if attempts <= failures:
                    raise UnavailableError(f"attempt {attempts} failed")
                (self.control / "published").write_bytes(artifact.read_bytes())
            return {"attempts": str(attempts)}

        return ExportResult(response={"made": "it"}, finalize=finalize)


class ChattyExporter(SwitchedExporter):
    """Reports a lot, as fast as it can."""

    type = "test-chatty"
    title = "Reports a lot"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        with context.progress.status("talking", total=200_000) as status:
            for number in range(200_000):
                status.update(number + 1)
                if number % 10 == 0:
                    context.progress.log("x" * 1000 + "\n")
                if number % 1000 == 0:
                    await asyncio.sleep(0)
        self.tell("talked")
        return ExportResult(response={"peak-kib": peak_memory()})


class CrashingExporter(SwitchedExporter):
    """Has a bug."""

    type = "test-crashing"
    title = "Has a bug"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        raise ZeroDivisionError("a bug")


class IntrospectingExporter(SwitchedExporter):
    """Reports the tasks and files of the server's process."""

    type = "test-introspecting"
    title = "Tells what is alive"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        tasks = sorted(task.get_coro().__qualname__ for task in asyncio.all_tasks())  # type: ignore[union-attr]
        return ExportResult(response={"tasks": json.dumps(tasks), "files": str(open_files())})


EXPORTERS = (
    BlockingExporter,
    ChattyExporter,
    CrashingExporter,
    FinalizingExporter,
    IntrospectingExporter,
)
