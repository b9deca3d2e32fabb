"""Progress as a tree that is redrawn in place, as ``buildctl --progress=tty`` shows it.

Each vertex is a line with its statuses on the lines below, and durations on the right. Running vertices show
the end of their output if there is room, with long lines wrapped. Rows that do not fit the window are
omitted, completed work first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from exporter.image import Time
from exporter.progress.merge import Interval, ProgressState, VertexState, busy_seconds
from exporter.progress.model import StatusUpdate, VertexStatus
from exporter.progress.sanitize import clean, clean_output
from exporter.progress.units import format_amount

_DRAW_EVERY = 0.1  # seconds between two frames
_OUTPUT_ROWS = 6  # rows for the end of a running vertex's output
_OUTPUT_PREFIX = "=> # "
_KEPT_LINES = 1000  # lines of a vertex's output to keep, for the report if it fails
_SPIN = 0.1  # seconds per frame of the spinner
_ECHO = 2  # columns kept free for the echo of "^C", which would otherwise wrap to another line
_MARGIN = 4  # columns before a row's name
_MIN_NAME = 12  # minimum columns for a name; below that, amount and timer are not shown
_BRAILLE = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ASCII = "|/-\\"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the tree."""

    name: str
    seconds: float | None = None
    amount: str = ""
    style: str = ""
    running: bool = False


class TTYRenderer:
    """Draws progress on a terminal.

    Colours respect ``NO_COLOR`` and ``TERM``; spinner and ellipsis are ASCII unless the terminal's encoding
    is UTF-8. As in buildctl, ``BUILDKIT_TTY_LOG_LINES`` sets the rows for a running vertex's output.

    Args:
        stream: The terminal.
        phase: What is in progress, for the first line.
        clock: A monotonic clock in seconds.
        wall: The wall clock in Unix nanoseconds.
        console: The console to draw on; by default a new one for `stream`.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        phase: str = "Building",
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = time.time_ns,
        console: Console | None = None,
    ) -> None:
        self._console = console or Console(file=stream, highlight=False, markup=False, emoji=False)
        self._phase = phase
        self._clock = clock
        self._wall = wall
        self._state = ProgressState(tail=_KEPT_LINES)
        self._skew: int | None = None
        self._began: int | None = None
        self._next_draw = 0.0
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._output_rows = _positive(os.environ.get("BUILDKIT_TTY_LOG_LINES", "")) or _OUTPUT_ROWS
        self._unicode = self._console.encoding.lower().replace("-", "") == "utf8"

    def update(self, update: StatusUpdate) -> None:
        """Apply an update, and redraw unless that just happened."""
        self._state.apply(update)
        if self._began is None and (starts := [v.started for v in update.vertexes if v.started is not None]):
            self._began = min(start.unix_nano for start in starts)
            # The sender's clock may differ from ours, and only durations matter.
            self._skew = self._wall() - self._began
        now = self._clock()
        if now >= self._next_draw:
            self._next_draw = now + _DRAW_EVERY
            self.refresh()

    def refresh(self) -> None:
        """Redraw: timers and spinners move even without updates."""
        if not self._live.is_started:
            self._live.start()
        self._live.update(self.frame(final=False), refresh=True)

    def close(self) -> None:
        """Draw everything one last time, then the output of each failed vertex."""
        if not self._live.is_started:
            self._live.start()
        self._live.vertical_overflow = "visible"
        self._live.update(self.frame(final=True), refresh=True)
        self._live.stop()
        for state in self._state.vertexes:
            if state.failed:
                self._report(state)

    def frame(self, *, final: bool = False) -> Group:
        """The current picture: as much as fits the terminal, or everything if it is the `final` one."""
        width, height = self._console.width - _ECHO, self._console.height
        now = self._now()
        seconds = (now - self._began) / 1e9 if self._began is not None else 0.0
        completed, total = self._state.completed, self._state.total
        finished = " FINISHED" if final and 0 < completed == total else ""
        mark = "+" if final else self._spinner()
        lines = [Text(f"[{mark}] {self._phase} {seconds:.1f}s ({completed}/{total}){finished}")]
        if final:
            rows = [row for state in self._state.vertexes for row in _rows(state, now)]
        else:
            rows = fit_height(self._with_output(now, width, height - 2), height - 2)
        lines.extend(self._line(row, width, final=final) for row in rows)
        for line in lines:
            line.no_wrap = True
            line.truncate(width, overflow="crop")
        return Group(*lines)

    def _report(self, state: VertexState) -> None:
        lines = [f" > {clean(state.name)}:", *map(clean_output, state.tail)]
        for line in ("------", *lines, "------"):
            self._console.print(self._encodable(line), soft_wrap=True)

    def _now(self) -> int:
        return self._wall() - (self._skew or 0)

    def _with_output(self, now: int, width: int, limit: int) -> list[Row]:
        """All rows, and the end of the running vertices' output if there is room for it."""
        trees = [(state, list(_rows(state, now))) for state in self._state.vertexes]
        room = limit - sum(len(rows) for _, rows in trees)
        columns = max(width - _MARGIN - len(_OUTPUT_PREFIX), 1)
        count = max(_OUTPUT_ROWS, min(self._output_rows, limit - _OUTPUT_ROWS))
        all_rows: list[Row] = []
        for state, rows in reversed(trees):
            output = end_of_output(state.tail, columns, count) if state.running else []
            shown = [Row(f"{_OUTPUT_PREFIX}{line}", style="dim", running=True) for line in output]
            if len(shown) <= room:
                room -= len(shown)
                rows.extend(shown)
            all_rows[:0] = rows
        return all_rows

    def _line(self, row: Row, width: int, *, final: bool) -> Text:
        spins = row.running and row.seconds is not None and not final
        prefix = f"{self._spinner() if spins else ' '}=> "
        timer = f" {row.seconds if row.seconds >= 0.05 else 0:.1f}s" if row.seconds is not None else ""
        left = width - len(prefix) - len(timer)
        amount = f" {row.amount}" if row.amount else ""
        if left - len(amount) < _MIN_NAME:
            amount = ""
        if left < _MIN_NAME:
            timer, left = "", width - len(prefix)
        name = self._shorten(self._encodable(row.name), left - len(amount))
        text = name + amount
        return Text(prefix + (set_cell_size(text, left) + timer if timer else text), style=row.style)

    def _shorten(self, text: str, columns: int) -> str:
        if cell_len(text) <= columns:
            return text
        ellipsis = "…" if self._unicode else "..."
        if columns <= len(ellipsis):
            return set_cell_size(text, max(columns, 0))
        return set_cell_size(text, columns - len(ellipsis)).rstrip() + ellipsis

    def _spinner(self) -> str:
        frames = _BRAILLE if self._unicode else _ASCII
        return frames[int(self._clock() / _SPIN) % len(frames)]

    def _encodable(self, text: str) -> str:
        encoding = self._console.encoding
        return text.encode(encoding, "replace").decode(encoding)


def _rows(state: VertexState, now: int) -> Iterator[Row]:
    prefix, style = _ending(state)
    seconds = state.seconds(now)
    yield Row(prefix + clean(state.name), seconds, style=style, running=state.running)
    for status in state.statuses.values():
        yield _status_row(status, now, failed=bool(state.error))
    for warning in state.warnings:
        yield Row(f"WARN: {clean(warning.short)}", seconds, style="yellow")


def _ending(state: VertexState) -> tuple[str, str]:
    """The word before a vertex's name, and its colour."""
    if state.canceled:
        return "CANCELED ", "yellow"
    if state.error:
        return "ERROR ", "red"
    return "CACHED " if state.cached else "", "" if state.running else "blue"


def _status_row(status: VertexStatus, now: int, *, failed: bool) -> Row:
    spans: list[Interval] = []
    if status.started is not None:
        spans.append(Interval(status.started.unix_nano, _nano(status.completed)))
    running = status.completed is None and not failed
    return Row(
        f"=> {clean(status.id)}",
        busy_seconds(spans, now),
        format_amount(status, precision=1),
        style="" if running else "blue",
        running=running,
    )


def _nano(moment: Time | None) -> int | None:
    return moment.unix_nano if moment is not None else None


def end_of_output(lines: Iterable[bytes], columns: int, limit: int) -> list[str]:
    """The last rows of a terminal after output was written to it, without empty ones.

    Args:
        lines: The output's lines, each preceded by its timestamp.
        columns: The terminal's width.
        limit: The maximum number of rows.
    """
    rows: list[str] = []
    for line in list(lines)[-limit:]:
        _, _, text = line.partition(b" ")
        rows.extend(chop_cells(clean_output(text), columns) or [""])
    return [row for row in rows[-limit:] if row.strip()]


def _positive(text: str) -> int | None:
    return int(text) if text.isdecimal() and text.isascii() and int(text) > 0 else None


def fit_height(rows: Sequence[Row], limit: int) -> list[Row]:
    """Choose `limit` rows without reordering them: preferably running ones, and late ones over early ones."""
    if len(rows) <= limit:
        return list(rows)
    indexes = sorted(range(len(rows)), key=lambda index: (rows[index].running, index), reverse=True)
    return [rows[index] for index in sorted(indexes[: max(limit, 0)])]
