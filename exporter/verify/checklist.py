"""Collecting checks: those of documents are made at once, those of large blobs later, several at a time."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass

from exporter.content.concurrency import map_each
from exporter.progress.producer import VertexProgress
from exporter.verify.blobs import BlobFacts, examine
from exporter.verify.report import Finding, Report, Result, Subject

_MOST_THREADS = 4


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob that can be read.

    Attributes:
        key: Tells it from others; a digest, or the name of a file.
        digest: What it is known by.
        size: What it should have, for the progress.
        open: Begins to read it.
    """

    key: str
    digest: str
    size: int
    open: Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class _Later:
    blob: Blob
    results: Callable[[BlobFacts], Iterable[Result]]


class Checklist:
    """Checks in the order of what they are about, though not made in that order.

    Args:
        concurrency: Blobs that are read at once; None for as many as this machine has processors for.
        progress: Shows which blobs are being read.
    """

    def __init__(self, *, concurrency: int | None = None, progress: VertexProgress | None = None) -> None:
        self._concurrency = concurrency or min(os.cpu_count() or 1, _MOST_THREADS)
        self._progress = progress
        self._entries: list[Result | _Later] = []

    def add(
        self, subject: Subject, check: str, findings: Iterable[Finding] = (), *, skipped: str = ""
    ) -> bool:
        """Note down a check; tells whether no problem was found."""
        result = Result(subject, check, tuple(findings), skipped)
        self._entries.append(result)
        return not any(finding.is_problem for finding in result.findings)

    def later(self, blob: Blob, results: Callable[[BlobFacts], Iterable[Result]]) -> None:
        """Have a blob read, and `results` make its checks of what it is. Each blob is read once."""
        self._entries.append(_Later(blob, results))

    async def finish(self) -> Report:
        """Read the blobs, and give all checks."""
        blobs = {entry.blob.key: entry.blob for entry in self._entries if isinstance(entry, _Later)}
        facts: dict[str, BlobFacts] = {}
        # `examine` waits for its thread, so nothing is left to run in them.
        with ThreadPoolExecutor(self._concurrency, "verify") as executor:

            async def read(blob: Blob) -> None:
                with (
                    self._progress.status(f"reading {blob.key}", total=blob.size)
                    if self._progress
                    else nullcontext() as status
                ):
                    on_bytes = status.advance if status is not None else None
                    facts[blob.key] = await examine(blob.open(), blob.digest, executor, on_bytes)

            await map_each(blobs.values(), read, self._concurrency)
        report = Report()
        for entry in self._entries:
            if isinstance(entry, Result):
                report.results.append(entry)
            else:
                report.results.extend(entry.results(facts[entry.blob.key]))
        return report
