"""A queue between the producers of progress and a slow reader."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from exporter.progress.model import StatusUpdate, Vertex, VertexLog, VertexStatus, VertexWarning

DEFAULT_LOG_LIMIT = 1024 * 1024
"""Maximum bytes of output in the queue, and so in one message (BuildKit's limit is 1 MiB as well)."""


@dataclass(slots=True)
class _Dropped:
    """Output of one vertex that was dropped because the reader was too slow."""

    messages: int = 0
    size: int = 0


class CoalescingQueue:
    """Accepts updates without blocking; its single reader gets all pending updates merged into one.

    Memory is bounded by the amount of work, not by the number of reports, because only the latest report of
    each status is kept. All vertices and warnings arrive, in order. Output arrives in order, too, but if more
    than `log_limit` bytes are pending, the oldest are dropped, since errors are usually at the end. A line in
    the vertex's output then says how much is missing.

    `put` is a `StatusSink`: call it from the event loop's thread only.

    Args:
        log_limit: Maximum bytes of pending output.
    """

    def __init__(self, log_limit: int = DEFAULT_LOG_LIMIT) -> None:
        self._log_limit = log_limit
        self._vertexes: list[Vertex] = []
        self._statuses: dict[tuple[str, str], VertexStatus] = {}
        self._warnings: list[VertexWarning] = []
        self._logs: deque[VertexLog] = deque()
        self._log_size = 0
        self._dropped: dict[str, _Dropped] = {}
        self._open_lines: set[str] = set()
        self._closed = asyncio.Event()
        self._wake = asyncio.Event()

    def put(self, update: StatusUpdate) -> None:
        """Add an update. After `close` it is ignored."""
        if self._closed.is_set():
            return
        self._vertexes.extend(update.vertexes)
        for status in update.statuses:
            self._statuses[status.vertex, status.id] = status
        self._warnings.extend(update.warnings)
        self._add_logs(update.logs)
        if self._pending:
            self._wake.set()

    def close(self) -> None:
        """Signal the end. Pending updates can still be read."""
        self._closed.set()
        self._wake.set()

    async def get(self) -> StatusUpdate | None:
        """Wait for updates.

        Returns:
            Everything since the last call, merged; None once the queue is closed and empty.
        """
        while not self._pending:
            if self._closed.is_set():
                return None
            self._wake.clear()
            await self._wake.wait()
        return self._take()

    async def pause(self, seconds: float) -> None:
        """Let updates accumulate; returns immediately once the queue is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    async def __aiter__(self) -> AsyncIterator[StatusUpdate]:
        """Read until the queue is closed and empty."""
        while (update := await self.get()) is not None:
            yield update

    @property
    def _pending(self) -> bool:
        return bool(self._vertexes or self._statuses or self._warnings or self._logs or self._dropped)

    def _add_logs(self, logs: Iterable[VertexLog]) -> None:
        for log in logs:
            self._logs.append(log)
            self._log_size += len(log.data)
            while self._log_size > self._log_limit:
                self._drop_oldest(self._log_size - self._log_limit)

    def _drop_oldest(self, excess: int) -> None:
        oldest = self._logs.popleft()
        size = len(oldest.data)
        if not self._logs:  # a single message exceeds the limit: keep its end
            self._logs.append(replace(oldest, data=oldest.data[excess:]))
            size = excess
        self._log_size -= size
        dropped = self._dropped.setdefault(oldest.vertex, _Dropped())
        dropped.messages += 1
        dropped.size += size

    def _take(self) -> StatusUpdate:
        update = StatusUpdate(
            vertexes=tuple(self._vertexes),
            statuses=tuple(self._statuses.values()),
            logs=tuple(self._take_logs()),
            warnings=tuple(self._warnings),
        )
        self._vertexes.clear()
        self._statuses.clear()
        self._warnings.clear()
        return update

    def _take_logs(self) -> Iterable[VertexLog]:
        while self._logs:
            log = self._logs.popleft()
            dropped = self._dropped.pop(log.vertex, None)
            if dropped is not None:
                yield replace(log, data=self._note(log.vertex, dropped), stream=2)
            yield log
            if log.data:
                self._track_line(log)
        for vertex, dropped in self._dropped.items():
            yield VertexLog(vertex, self._note(vertex, dropped), stream=2)
        self._dropped.clear()
        self._log_size = 0

    def _note(self, vertex: str, dropped: _Dropped) -> bytes:
        before = "\n" if vertex in self._open_lines else ""
        self._open_lines.discard(vertex)
        count = f"{dropped.size} bytes in {dropped.messages} message{'s' if dropped.messages != 1 else ''}"
        return f"{before}[output dropped, the reader was too slow: {count}]\n".encode()

    def _track_line(self, log: VertexLog) -> None:
        if log.data.endswith(b"\n"):
            self._open_lines.discard(log.vertex)
        else:
            self._open_lines.add(log.vertex)
