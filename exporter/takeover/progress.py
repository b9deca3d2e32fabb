"""The progress that the proxy adds to that of a build."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from exporter.progress.model import StatusUpdate, Vertex, VertexStatus, VertexWarning
from exporter.progress.queue import CoalescingQueue


class BuildProgress:
    """Distributes additions to a build's progress to all its watchers. Late ones get the past updates first.

    Logs of vertices are not kept for late watchers.
    """

    def __init__(self) -> None:
        self._queues: set[CoalescingQueue] = set()
        self._vertexes: list[Vertex] = []
        self._statuses: dict[tuple[str, str], VertexStatus] = {}
        self._warnings: list[VertexWarning] = []
        self._is_closed = False

    def put(self, update: StatusUpdate) -> None:
        """Add an update; see `StatusSink`."""
        self._vertexes.extend(update.vertexes)
        self._statuses.update(((status.vertex, status.id), status) for status in update.statuses)
        self._warnings.extend(update.warnings)
        for queue in self._queues:
            queue.put(update)

    def close(self) -> None:
        """End the progress."""
        self._is_closed = True
        for queue in self._queues:
            queue.close()

    @contextmanager
    def watched(self) -> Iterator[CoalescingQueue]:
        """Watch all past and future updates."""
        queue = CoalescingQueue()
        queue.put(
            StatusUpdate(
                vertexes=tuple(self._vertexes),
                statuses=tuple(self._statuses.values()),
                warnings=tuple(self._warnings),
            )
        )
        if self._is_closed:
            queue.close()
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)
