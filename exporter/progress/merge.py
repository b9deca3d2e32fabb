"""Merging progress messages into the current state of the build.

A message only contains what changed. The latest message about a vertex or status wins, output and warnings
accumulate, and the vertices of a progress group are shown as one. A vertex may start and complete several
times (when several solvers share it), so its duration is the union of those intervals. The result is what
BuildKit's ``util/progress/progressui`` shows for the same messages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from exporter.image import Time
from exporter.progress.model import StatusUpdate, Vertex, VertexLog, VertexStatus, VertexWarning
from exporter.progress.producer import CANCELED

_NANOSECONDS = 1_000_000_000
_LINE_LIMIT = 16 * 1024  # bytes per line in `tail`: output without line feeds must not accumulate


@dataclass(frozen=True, slots=True)
class Interval:
    """A span of time in Unix nanoseconds; `stop` is None while it lasts."""

    start: int
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a line of output, without line feed; the first piece of a line begins with a timestamp."""

    text: bytes
    begins: bool
    ends: bool


class VertexState:
    """The state of a vertex, or of a group of vertices.

    Attributes:
        key: The vertex's digest or the group's ID.
        statuses: By ID, in the order in which they started. Those that have not started are not shown.
        tail: The last lines of output, of which the last may be incomplete; very long lines are truncated.
        hidden: There is nothing to show yet: the vertex has not started, or all started members of the group
            are weak.
    """

    def __init__(self, key: str, name: str, tail: int) -> None:
        self.key = key
        self.name = name
        self.cached = False
        self.error = ""
        self.hidden = True
        self.statuses: dict[str, VertexStatus] = {}
        self.warnings: list[VertexWarning] = []
        self.intervals: list[Interval] = []
        self.tail: deque[bytes] = deque(maxlen=tail)
        self._spans: dict[int, Interval] = {}
        self._line_open = False
        self._members: dict[str, Vertex] = {}

    @property
    def is_group(self) -> bool:
        """Whether this is a group of vertices."""
        return bool(self._members)

    @property
    def running(self) -> bool:
        """Whether it has started and not completed."""
        return not self.hidden and self.completed_at is None

    @property
    def completed_at(self) -> int | None:
        """When it last completed (Unix nanoseconds); None if it is running or has not started."""
        return self.intervals[-1].stop if self.intervals else None

    @property
    def canceled(self) -> bool:
        """Whether the error only says that the build was cancelled."""
        return self.error.endswith(CANCELED)

    @property
    def failed(self) -> bool:
        """Whether it ended with an error other than cancellation."""
        return bool(self.error) and not self.canceled

    def seconds(self, now: int) -> float:
        """How long it has been running up to `now` (Unix nanoseconds)."""
        return busy_seconds(self.intervals, now)

    def _visible(self) -> tuple[object, ...]:
        return (self.name, self.cached, self.error, self.hidden, tuple(self._spans.values()))

    def _set(self, vertex: Vertex) -> bool:
        """Apply a message; return whether anything visible changed."""
        before = self._visible()
        if vertex.group is None:
            # A message without a start time only announces a vertex. It must not reset one that has started.
            if vertex.started is not None or not self.intervals:
                self.name, self.cached, self.error = vertex.name, vertex.cached, vertex.error
        else:
            self._members[vertex.digest] = vertex
            members = self._members.values()
            self.cached = all(member.cached for member in members)
            self.error = next((member.error for member in members if member.error), "")
        self._add_span(vertex)
        if vertex.started is not None and not (
            vertex.group is not None and vertex.group.weak and not self.error
        ):
            self.hidden = False
        return not self.hidden and self._visible() != before

    def _add_span(self, vertex: Vertex) -> None:
        if vertex.started is None:
            return
        start = vertex.started.unix_nano
        stop = vertex.completed.unix_nano if vertex.completed is not None else None
        self._spans[start] = Interval(start, stop)
        self.intervals = merge_intervals(self._spans.values())

    def _set_status(self, status: VertexStatus) -> None:
        if status.started is not None or status.id in self.statuses:
            self.statuses[status.id] = status

    def _add_output(self, log: VertexLog) -> Iterable[Piece]:
        lines = log.data.split(b"\n")
        ended = lines[-1] == b""
        if ended:
            lines.pop()
        for number, line in enumerate(lines):
            ends = ended or number < len(lines) - 1
            begins = not self._line_open
            text = self._stamp(log.timestamp) + line if begins else line
            if begins:
                self.tail.append(text[:_LINE_LIMIT])
            elif len(self.tail[-1]) < _LINE_LIMIT:
                self.tail[-1] += text
            self._line_open = not ends
            yield Piece(text, begins, ends)

    def _stamp(self, timestamp: Time | None) -> bytes:
        seconds = 0.0
        if timestamp is not None and self.intervals:
            seconds = (timestamp.unix_nano - self.intervals[-1].start) / _NANOSECONDS
        precision = 3 if seconds < 10 else 2 if seconds < 100 else 1
        return f"{seconds:.{precision}f} ".encode()


@dataclass(slots=True)
class Changes:
    """What an update changed: the vertices that look different now, and their new output."""

    touched: dict[VertexState, None] = field(default_factory=dict)
    statuses: list[tuple[VertexState, str]] = field(default_factory=list)
    output: list[tuple[VertexState, Piece]] = field(default_factory=list)


class ProgressState:
    """The state of the build according to the messages so far.

    Args:
        tail: The number of output lines to keep per vertex.
    """

    def __init__(self, tail: int = 10) -> None:
        self._revealed: dict[VertexState, None] = {}
        self._tail = tail
        self._by_digest: dict[str, VertexState] = {}
        self._groups: dict[str, VertexState] = {}

    @property
    def vertexes(self) -> list[VertexState]:
        """The vertices and groups to show, in the order in which they started."""
        return list(self._revealed)

    @property
    def total(self) -> int:
        """The number of known vertices; a group counts as one."""
        return len(self._counted())

    @property
    def completed(self) -> int:
        """The number of completed vertices; a group counts as one."""
        return sum(state.completed_at is not None for state in self._counted())

    def apply(self, update: StatusUpdate) -> Changes:
        """Apply an update. Statuses and output of unknown vertices are ignored."""
        changes = Changes()
        for vertex in update.vertexes:
            state = self._state_of(vertex)
            if state._set(vertex):
                changes.touched[state] = None
                self._reveal(state)
        for status in update.statuses:
            if (reporter := self._reporting(status.vertex, changes)) is not None:
                reporter._set_status(status)
                changes.statuses.append((reporter, status.id))
        for warning in update.warnings:
            if (reporter := self._reporting(warning.vertex, changes)) is not None:
                reporter.warnings.append(warning)
        for log in update.logs:
            if (reporter := self._reporting(log.vertex, changes)) is not None:
                changes.output.extend((reporter, piece) for piece in reporter._add_output(log))
        return changes

    def _state_of(self, vertex: Vertex) -> VertexState:
        if vertex.group is None:
            state = self._by_digest.get(vertex.digest)
            key, name = vertex.digest, vertex.name
        else:
            state = self._groups.get(vertex.group.id)
            key, name = vertex.group.id, vertex.group.name
        if state is None:
            state = VertexState(key, name, self._tail)
        if vertex.group is not None:
            self._groups[key] = state
        self._by_digest[vertex.digest] = state
        return state

    def _reporting(self, digest: str, changes: Changes) -> VertexState | None:
        """Find the vertex of a status, warning or log. Such a message implies that the vertex has started."""
        state = self._by_digest.get(digest)
        if state is not None:
            changes.touched[state] = None
            if not state.is_group:
                state.hidden = False
                self._reveal(state)
        return state

    def _reveal(self, state: VertexState) -> None:
        if not state.hidden:
            self._revealed.setdefault(state)

    def _counted(self) -> list[VertexState]:
        return [state for state in set(self._by_digest.values()) if not (state.is_group and state.hidden)]


def merge_intervals(intervals: Iterable[Interval]) -> list[Interval]:
    """Merge overlapping intervals. An open interval absorbs all that start after it."""
    merged: list[Interval] = []
    for interval in sorted(intervals, key=lambda interval: interval.start):
        last = merged[-1] if merged else None
        if last is None or (last.stop is not None and last.stop < interval.start):
            merged.append(interval)
        elif last.stop is not None and (interval.stop is None or interval.stop > last.stop):
            merged[-1] = Interval(last.start, interval.stop)
    return merged


def busy_seconds(intervals: Iterable[Interval], now: int) -> float:
    """The total length of the intervals; an open interval counts up to `now` (Unix nanoseconds)."""
    spans = ((now if span.stop is None else span.stop) - span.start for span in intervals)
    return sum(spans) / _NANOSECONDS
