"""The lines of the table, and how they are written: Markdown for documents, JSON for programs."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Line:
    """A measurement.

    Attributes:
        group: The group that it belongs to, which ``--only`` selects.
        what: What was measured.
        ours: Our figure.
        peer: The figure of what it is compared with; None if there is nothing.
        unit: The unit of both.
        peer_name: What it is compared with.
        value: What the goal is about: a ratio, or our figure itself.
        goal: The limit; None if there is none.
        at_least: Whether `goal` is a minimum instead of a maximum.
        note: Anything else to know.
    """

    group: str
    what: str
    ours: float
    unit: str
    value: float
    peer: float | None = None
    peer_name: str = ""
    goal: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None if there is none."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def cells(self) -> tuple[str, ...]:
        """The cells of its row."""
        ratio = "" if self.peer is None or not self.peer else f"{self.ours / self.peer:.2f}"
        goal = "" if self.goal is None else f"{'≥' if self.at_least else '≤'} {self.goal:g}"
        met = {None: "", True: "yes", False: "**no**"}[self.is_met]
        peer = "" if self.peer is None else f"{self.peer_name}: {number(self.peer)} {self.unit}"
        return self.what, f"{number(self.ours)} {self.unit}", peer, ratio, goal, met, self.note


HEAD = ("what", "ours", "peer", "ratio", "goal", "met", "")


def number(value: float) -> str:
    """A figure with three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def row(cells: Sequence[str]) -> str:
    """A row in Markdown."""
    return f"| {' | '.join(cells)} |"


def markdown(lines: Sequence[Line]) -> str:
    """The table in Markdown."""
    head = [row(HEAD), "|---|--:|--:|--:|--:|---|---|"]
    return "\n".join([*head, *(row(line.cells()) for line in lines)])


def to_json(lines: Sequence[Line]) -> str:
    """The table as JSON, with the commit and the machine."""
    rows = [{**asdict(line), "met": line.is_met} for line in lines]
    return json.dumps({"commit": commit(), "machine": machine(), "lines": rows}, indent=2, ensure_ascii=False)


def commit() -> str:
    """The commit of the checkout."""
    words = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def machine() -> str:
    """What it was measured on."""
    model = "unknown processor"
    for text in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if text.startswith("model name"):
            model = text.partition(":")[2].strip()
            break
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} × {model}, Linux {platform.release()}, Python {platform.python_version()}, "
        f"load {load:.1f}"
    )
