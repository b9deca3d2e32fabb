"""Progress that the proxy adds to a build's, for those who watch the build."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from exporter.progress.model import StatusUpdate, Vertex, VertexStatus, VertexWarning
from exporter.progress.queue import CoalescingQueue


class BuildProgress:
    """Gives every watcher of a build what is added to its progress; one who comes late gets what has been.

    Output of vertices is not kept for those who come late.
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
        """Say that nothing follows."""
        self._is_closed = True
        for queue in self._queues:
            queue.close()

    @contextmanager
    def watched(self) -> Iterator[CoalescingQueue]:
        """A queue of all that has been and will be added."""
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
