"""The progress of a build in a notebook.

::

    from exporter.client.notebook import show_progress

    with show_progress() as on_event:
        client.build(".", on_event=on_event)

The steps are a table that is updated in place. Without IPython, the end of the block writes them to standard
output. IPython is not a dependency of this package.
"""

from __future__ import annotations

import html
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from exporter.client.events import Event, Step, StepChanged, StepOutput, StepProgress, StepState, StepWarning
from exporter.progress.sanitize import clean
from exporter.progress.units import format_bytes

_REFRESH_SECONDS = 0.2
_OUTPUT_LINES = 6
_COLOURS = {
    StepState.WAITING: "#888",
    StepState.RUNNING: "#0a66c2",
    StepState.CACHED: "#777",
    StepState.DONE: "#2e7d32",
    StepState.FAILED: "#c62828",
    StepState.CANCELLED: "#b26a00",
}
_SIGNS = {
    StepState.WAITING: "·",
    StepState.RUNNING: "▸",
    StepState.CACHED: "○",
    StepState.DONE: "✓",
    StepState.FAILED: "✗",
    StepState.CANCELLED: "–",
}


class ProgressTable:
    """The steps of a build as a table. It is an event handler, and notebooks can show it."""

    def __init__(self) -> None:
        self._steps: dict[str, Step] = {}
        self._amounts: dict[str, dict[str, StepProgress]] = {}
        self._output: dict[str, deque[str]] = {}
        self._warnings: list[StepWarning] = []

    def __call__(self, event: Event) -> None:
        """Accept an event."""
        match event:
            case StepChanged():
                self._steps[event.step.digest] = event.step
            case StepProgress():
                self._amounts.setdefault(event.step.digest, {})[event.id] = event
            case StepOutput():
                lines = self._output.setdefault(event.step.digest, deque(maxlen=_OUTPUT_LINES))
                lines.extend(event.text.splitlines())
            case StepWarning():
                self._warnings.append(event)

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        rows = "".join(map(self._row, self._shown()))
        notes = "".join(
            f'<div style="color:#b26a00">⚠ {_escaped(warning.message)}</div>' for warning in self._warnings
        )
        style = "font-family:monospace;font-size:12px;text-align:left"
        return f'<table style="{style}">{rows}</table>{notes}'

    def __str__(self) -> str:
        """The table as text."""
        lines = []
        for step in self._shown():
            error = f": {clean(step.error)}" if step.error else ""
            lines.append(f"{_SIGNS[step.state]} {clean(step.name)}{_duration(step)}{error}")
        return "\n".join([*lines, *(f"! {clean(warning.message)}" for warning in self._warnings)])

    def _shown(self) -> list[Step]:
        return [step for step in self._steps.values() if step.state is not StepState.WAITING]

    def _row(self, step: Step) -> str:
        cell = '<td style="text-align:left;vertical-align:top;padding:1px 6px'
        colour = _COLOURS[step.state]
        detail = self._detail(step)
        return (
            f'<tr>{cell};color:{colour}">{_SIGNS[step.state]}</td>'
            f'{cell}">{_escaped(step.name)}{detail}</td>{cell};color:#888">{_duration(step)}</td></tr>'
        )

    def _detail(self, step: Step) -> str:
        parts = []
        if step.state is StepState.RUNNING:
            for amount in self._amounts.get(step.digest, {}).values():
                if not amount.is_done:
                    size = " / ".join(
                        format_bytes(count) for count in (amount.current, amount.total) if count
                    )
                    parts.append(f'<div style="color:#888">{_escaped(amount.name)} {_escaped(size)}</div>')
        if step.state in {StepState.RUNNING, StepState.FAILED} and (lines := self._output.get(step.digest)):
            parts.append(f'<pre style="margin:0;color:#666">{_escaped(chr(10).join(lines))}</pre>')
        if step.error:
            parts.append(f'<div style="color:{_COLOURS[step.state]}">{_escaped(step.error)}</div>')
        return "".join(parts)


class _Handle(Protocol):
    def update(self, shown: object) -> None: ...


class NotebookProgress:
    """Shows a `ProgressTable` in the cell that runs, and redraws it at most a few times per second."""

    def __init__(self) -> None:
        self.table = ProgressTable()
        self._handle = _display(self.table)
        self._next = 0.0

    def __call__(self, event: Event) -> None:
        """Accept an event."""
        self.table(event)
        if self._handle is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + _REFRESH_SECONDS
            self._handle.update(self.table)

    def close(self) -> None:
        """Show the final state."""
        if self._handle is not None:
            self._handle.update(self.table)
        elif text := str(self.table):
            sys.stdout.write(f"{text}\n")


@contextmanager
def show_progress() -> Iterator[NotebookProgress]:
    """Show the progress of the builds in the block, whose event handler this yields."""
    progress = NotebookProgress()
    try:
        yield progress
    finally:
        progress.close()


def _display(table: ProgressTable) -> _Handle | None:
    """A place in the cell that runs; None outside of a notebook. Does not import IPython."""
    module = sys.modules.get("IPython.display")
    shell = sys.modules.get("IPython")
    if module is None or shell is None or shell.get_ipython() is None:
        return None
    handle: _Handle | None = module.display(table, display_id=True)
    return handle


def _duration(step: Step) -> str:
    if step.is_cached:
        return " cached"
    return f" {step.seconds:.1f}s" if step.seconds is not None else ""


def _escaped(text: str) -> str:
    return html.escape(clean(text) if "\n" not in text else "\n".join(map(clean, text.split("\n"))))
