"""Collecting check results: immediately for documents, and later and concurrently for large blobs."""

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
        key: A unique key: a digest, or the name of a file.
        digest: The expected digest.
        size: The expected size in bytes, for the progress.
        open: Starts reading it.
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
    """Check results, ordered by subject although blobs are checked later.

    Args:
        concurrency: The number of blobs to read concurrently; None to choose it by the number of processors.
        progress: Reports which blobs are being read.
    """

    def __init__(self, *, concurrency: int | None = None, progress: VertexProgress | None = None) -> None:
        self._concurrency = concurrency or min(os.cpu_count() or 1, _MOST_THREADS)
        self._progress = progress
        self._entries: list[Result | _Later] = []

    def add(
        self, subject: Subject, check: str, findings: Iterable[Finding] = (), *, skipped: str = ""
    ) -> bool:
        """Record a check; return whether it found no problem."""
        result = Result(subject, check, tuple(findings), skipped)
        self._entries.append(result)
        return not any(finding.is_problem for finding in result.findings)

    def later(self, blob: Blob, results: Callable[[BlobFacts], Iterable[Result]]) -> None:
        """Schedule a blob to be read, and `results` to be called with the facts. Each blob is read once."""
        self._entries.append(_Later(blob, results))

    async def finish(self) -> Report:
        """Read the blobs, and return all results."""
        blobs = {entry.blob.key: entry.blob for entry in self._entries if isinstance(entry, _Later)}
        facts: dict[str, BlobFacts] = {}
        # Leaving the block does not wait, because `examine` waits for its own thread.
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
