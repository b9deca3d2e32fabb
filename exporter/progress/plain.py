"""Progress as plain text, line by line, in the format of ``buildctl --progress=plain``.

Only one vertex is shown at a time, its output below its name; ``#N ...`` marks a switch to another one. The
choice follows BuildKit's ``textMux``: completed vertices immediately, then the current one, until another has
been waiting too long or has much more to report.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from exporter.image import Time
from exporter.progress.merge import Piece, ProgressState, VertexState
from exporter.progress.model import StatusUpdate, VertexStatus
from exporter.progress.units import format_amount

_PRINT_EVERY = 0.1  # minimum seconds between two printouts
_SWITCH_AFTER = 5.0  # seconds until a busier vertex may replace the current one
_SILENT_LIMIT = 10.0  # maximum seconds that a vertex with updates has to wait
_STATUS_DELTA = 0.05  # progress (share of the total) after which an unfinished status gets another line
_STATUS_SECONDS = 5.0  # seconds after which it gets one anyway
_NAME_LIMIT = 72
_LINE_LIMIT = 16 * 1024  # bytes of an unfinished line to repeat when its vertex is shown again
_MEANINGFUL_SECONDS = 0.01


@dataclass(slots=True)
class _Shown:
    """What has been printed of a vertex, and what is pending."""

    index: int = 0
    new_statuses: set[str] = field(default_factory=set)
    last_printed: dict[str, VertexStatus] = field(default_factory=dict)
    warnings: int = 0
    output: list[Piece] = field(default_factory=list)
    line: bytes = b""
    line_open: bool = False
    news: int = 0
    waiting_since: float = 0.0

    def add_news(self, now: float) -> None:
        if self.news == 0:
            self.waiting_since = now
        self.news += 1


class PlainRenderer:
    """Writes progress as lines.

    The environment variable ``PROGRESS_NO_TRUNC=0`` truncates the vertices' names to 72 characters.

    Args:
        stream: Where to write. Text is UTF-8; the vertices' output is copied byte for byte.
        clock: A monotonic clock in seconds.
        wall: The wall clock in Unix nanoseconds.
    """

    def __init__(
        self,
        stream: BinaryIO,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._wall = wall
        self._state = ProgressState()
        self._shown: dict[VertexState, _Shown] = {}
        self._touched: dict[VertexState, None] = {}
        self._current: VertexState | None = None
        self._begun = False
        self._next_index = 1
        self._next_print = 0.0
        self._text: list[bytes] = []
        self._truncate = os.environ.get("PROGRESS_NO_TRUNC") == "0"

    def update(self, update: StatusUpdate) -> None:
        """Apply an update, and print changes unless that just happened."""
        now = self._clock()
        changes = self._state.apply(update)
        for state, status_id in changes.statuses:
            self._of(state).new_statuses.add(status_id)
        for state, piece in changes.output:
            self._of(state).output.append(piece)
        for state in changes.touched:
            self._of(state).add_news(now)
            self._touched[state] = None
        if now >= self._next_print:
            self._next_print = now + _PRINT_EVERY
            self.refresh()

    def refresh(self) -> None:
        """Print pending changes."""
        self._choose()
        self._flush()

    def close(self) -> None:
        """Print pending changes, then the last output lines of each failed vertex."""
        self._choose()
        if self._current is not None:
            self._end_line(self._of(self._current))
        for state in self._state.vertexes:
            if state.failed:
                self._line("------")
                self._line(f" > {state.name}:")
                self._text.extend(line + b"\n" for line in state.tail)
                self._line("------")
        self._flush()

    def _choose(self) -> None:
        touched = [state for state in self._touched if not state.hidden]
        completed = [state for state in touched if not state.running]
        running = [state for state in touched if state.running]
        current = self._current
        completed.sort(key=lambda state: (state is not current, state.completed_at or 0))
        for state in completed:
            self._print(state)
        if not running:
            if current is None or not current.running:
                opened = next((state for state in self._state.vertexes if state.running), None)
                if opened is not None:
                    self._print(opened)
            return
        if current in running:
            self._print(current)
        if (following := self._successor(running)) is not None:
            self._print(following)

    def _successor(self, running: list[VertexState]) -> VertexState | None:
        """The vertex that replaces the current one, if any."""
        now = self._clock()
        current = self._current
        others = [state for state in running if state is not current]
        if not others:
            return None
        busiest = max(others, key=lambda state: self._rate(state, now))
        if current is None:
            return busiest
        for state in others:
            if now - self._of(state).waiting_since > _SILENT_LIMIT:
                return state
        # The larger the current vertex's share of all updates, the longer it may stay.
        rates = {state: self._rate(state, now) for state in (*others, current)}
        total = sum(rates.values())
        others_share = 1 - rates[current] / total if total else 1.0
        held = now - self._of(current).waiting_since
        if rates[busiest] > rates[current] and others_share * held > _SWITCH_AFTER:
            return busiest
        return None

    def _rate(self, state: VertexState, now: float) -> float:
        shown = self._of(state)
        return shown.news / max(now - shown.waiting_since, 1e-9)

    def _of(self, state: VertexState) -> _Shown:
        return self._shown.setdefault(state, _Shown())

    def _print(self, state: VertexState) -> None:
        shown = self._of(state)
        if not shown.index:
            shown.index = self._next_index
            self._next_index += 1
        if state is not self._current:
            self._switch_to(state, shown)
        has_open_status = self._print_statuses(state, shown)
        for warning in state.warnings[shown.warnings :]:
            self._line(f"#{shown.index} WARN: {warning.short}")
        shown.warnings = len(state.warnings)
        self._print_output(shown)
        self._current = state
        if not state.running and not has_open_status:
            self._print_end(state, shown)
        self._touched.pop(state, None)

    def _switch_to(self, state: VertexState, shown: _Shown) -> None:
        if self._current is not None:
            old = self._of(self._current)
            self._end_line(old)
            old.news = 0
            self._line(f"#{old.index} ...")
        if self._begun:
            self._line("")
        self._begun = True
        name = state.name
        if self._truncate and len(name) > _NAME_LIMIT:
            name = f"{name[:_NAME_LIMIT]}..."
        self._line(f"#{shown.index} {name}")

    def _print_statuses(self, state: VertexState, shown: _Shown) -> bool:
        """Print new statuses; return whether one of those printed has not completed."""
        has_open = False
        for status in state.statuses.values():
            if status.id not in shown.new_statuses or not _worth_a_line(
                status, shown.last_printed.get(status.id)
            ):
                continue
            shown.last_printed[status.id] = status
            has_open = has_open or status.completed is None
            self._line(f"#{shown.index} {_describe(status)}")
        shown.new_statuses.clear()
        return has_open

    def _print_output(self, shown: _Shown) -> None:
        for piece in shown.output:
            if piece.begins:
                shown.line = b""
            if not shown.line_open:  # at the start of a line, or after another vertex was shown in between
                self._text.append(b"#%d %s" % (shown.index, shown.line))
            self._text.append(piece.text)
            shown.line = (shown.line + piece.text)[:_LINE_LIMIT]
            shown.line_open = True
            if piece.ends:
                self._end_line(shown)
        shown.output.clear()

    def _end_line(self, shown: _Shown) -> None:
        if shown.line_open:
            self._text.append(b"\n")
            shown.line_open = False

    def _print_end(self, state: VertexState, shown: _Shown) -> None:
        self._end_line(shown)
        self._current = None
        shown.news = 0
        if state.canceled:
            end = "CANCELED"
        elif state.error:
            end = f"ERROR: {state.error}"
        elif state.cached:
            end = "CACHED"
        else:
            end = f"DONE {state.seconds(self._wall()):.1f}s"
        self._line(f"#{shown.index} {end}")

    def _line(self, text: str) -> None:
        self._text.append(text.encode("utf-8", "surrogateescape") + b"\n")

    def _flush(self) -> None:
        if self._text:
            self._stream.write(b"".join(self._text))
            self._stream.flush()
            self._text.clear()


def _worth_a_line(status: VertexStatus, last: VertexStatus | None) -> bool:
    if last is None or status.completed is not None:
        return True
    share = (status.current - last.current) / status.total if status.total > 0 else 0.0
    return share >= _STATUS_DELTA or _seconds_between(last.timestamp, status.timestamp) >= _STATUS_SECONDS


def _describe(status: VertexStatus) -> str:
    words = [status.id, format_amount(status)]
    seconds = _seconds_between(status.started, status.completed or status.timestamp)
    if seconds > _MEANINGFUL_SECONDS:
        words.append(f"{seconds:.1f}s")
    if status.completed is not None:
        words.append("done")
    return " ".join(word for word in words if word)


def _seconds_between(start: Time | None, stop: Time | None) -> float:
    if start is None or stop is None:
        return 0.0
    return (stop.unix_nano - start.unix_nano) / 1e9
