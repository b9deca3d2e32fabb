"""A workbench for tests that are ordinary functions, not coroutines."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from exporter.content.loop_thread import LoopThread
from exporter.exporters.base import Exporter
from exporter.source.saved.load import SavedSource
from exporter.source.types import BuildInfo, Source
from exporter.testing import checks
from exporter.testing.bench import Run, Workbench
from exporter.testing.sources import load_sample

T = TypeVar("T")


class BlockingWorkbench:
    """A synchronous `Workbench`; the fixture ``workbench``."""

    def __init__(self, loop: LoopThread, bench: Workbench) -> None:
        self._loop = loop
        self.asynchronous = bench

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[BlockingWorkbench]:
        """Prepare a workbench in a temporary directory."""
        with LoopThread.running() as loop, loop.entered(Workbench.open()) as bench:
            yield cls(loop, bench)

    def export(
        self,
        exporter: Exporter,
        source: Source | SavedSource,
        *,
        build: BuildInfo | None = None,
        takes_files: bool = True,
    ) -> Run:
        """Run an export; see `Workbench.export`."""
        export = self.asynchronous.export(exporter, source, build=build, takes_files=takes_files)
        return self._loop.wait(export)

    def finalize(self, run: Run) -> None:
        """Publish the result of an export; see `Workbench.finalize`."""
        self._loop.wait(self.asynchronous.finalize(run))

    def load_sample(self, name: str) -> SavedSource:
        """Load a small real build result; see `exporter.testing.load_sample`."""
        return self._loop.wait(load_sample(name))

    def assert_image_valid(self, run: Run) -> None:
        """See `exporter.testing.assert_image_valid`."""
        self._loop.wait(checks.assert_image_valid(run))

    def assert_reproducible(self, exporter: Exporter, source: Source | SavedSource) -> None:
        """See `exporter.testing.assert_reproducible`."""
        self._loop.wait(checks.assert_reproducible(exporter, source))

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run any coroutine, and return its result."""
        return self._loop.wait(coroutine)
