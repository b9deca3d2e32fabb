"""Producing progress: a vertex and its statuses, as BuildKit's exporters report them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from exporter.image import Time
from exporter.progress.model import StatusSink, StatusUpdate, Vertex, VertexLog, VertexStatus, VertexWarning

CANCELED = "context canceled"
"""The error of a cancelled vertex. Renderers recognise cancellation by Go's text."""


def now() -> Time:
    """The current time in UTC, with nanoseconds."""
    return Time.from_unix_nano(time.time_ns())


class Status:
    """A piece of work in progress; created by `VertexProgress.status`."""

    def __init__(self, sink: StatusSink, vertex: str, status_id: str, name: str, total: int) -> None:
        self._sink = sink
        self._vertex = vertex
        self._id = status_id
        self._name = name
        self._started = now()
        self._current = 0
        self._total = total

    def update(self, current: int, total: int | None = None) -> None:
        """Report how many bytes are done."""
        self._current = current
        if total is not None:
            self._total = total
        self._emit(None)

    def advance(self, amount: int) -> None:
        """Report that `amount` more bytes are done."""
        self.update(self._current + amount)

    def _emit(self, completed: Time | None) -> None:
        status = VertexStatus(
            id=self._id,
            vertex=self._vertex,
            name=self._name,
            current=self._current,
            total=self._total,
            timestamp=now(),
            started=self._started,
            completed=completed,
        )
        self._sink(StatusUpdate(statuses=(status,)))


class VertexProgress:
    """Reports progress under one vertex.

    Args:
        sink: Receives the messages.
        digest: The vertex's digest; BuildKit uses ``sha256("<session>-export-<index>")`` for exports.
    """

    def __init__(self, sink: StatusSink, digest: str) -> None:
        self._sink = sink
        self.digest = digest

    def in_thread(self, loop: asyncio.AbstractEventLoop) -> VertexProgress:
        """The same vertex for use in other threads than that of the event loop. The order is kept."""
        sink = self._sink
        return VertexProgress(lambda update: _call_soon(loop, sink, update), self.digest)

    @contextmanager
    def status(self, status_id: str, *, name: str = "", total: int = 0) -> Iterator[Status]:
        """Report a piece of work from start to end (BuildKit: ``progress.OneOff``).

        It is reported as completed on failure as well, as in upstream's ``OneOff``: a renderer has to know
        when the bar ends.

        Args:
            status_id: The text that people read.
            name: The kind of work (BuildKit: ``Action``), for programs.
            total: Bytes; 0 if there is nothing to count.
        """
        status = Status(self._sink, self.digest, status_id, name, total)
        status._emit(None)
        try:
            yield status
        finally:
            status._emit(now())

    def log(self, text: str, *, stream: int = 2) -> None:
        """Report `text` as output of the vertex."""
        entry = VertexLog(self.digest, text.encode("utf-8", "replace"), stream, now())
        self._sink(StatusUpdate(logs=(entry,)))

    def warn(self, short: str, *, detail: tuple[str, ...] = (), url: str = "", level: int = 1) -> None:
        """Report a warning, which is shown at the end of the build."""
        self._sink(StatusUpdate(warnings=(VertexWarning(self.digest, short, level, detail, url),)))


def _call_soon(loop: asyncio.AbstractEventLoop, sink: StatusSink, update: StatusUpdate) -> None:
    loop.call_soon_threadsafe(sink, update)


def _describe(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return CANCELED
    return str(error) or type(error).__name__


@contextmanager
def vertex(sink: StatusSink, digest: str, name: str) -> Iterator[VertexProgress]:
    """Report a vertex from start to end. An exception marks it as failed and propagates."""
    started = now()
    sink(StatusUpdate(vertexes=(Vertex(digest, name, started=started),)))
    try:
        yield VertexProgress(sink, digest)
    except BaseException as error:
        text = _describe(error)
        sink(StatusUpdate(vertexes=(Vertex(digest, name, started=started, completed=now(), error=text),)))
        raise
    sink(StatusUpdate(vertexes=(Vertex(digest, name, started=started, completed=now()),)))
