"""Measuring two ways to do the same in turns, because a machine is not equally busy all the time."""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OURS = (sys.executable, "-m", "exporter.cli")
"""The command line of the checkout."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What was measured in pairs, in seconds."""

    ours: tuple[float, ...]
    peer: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The median of the pairs' ratios: what slows both of a pair does not count."""
        return statistics.median(a / b for a, b in zip(self.ours, self.peer, strict=True))

    @property
    def best(self) -> tuple[float, float]:
        """The shortest of each."""
        return min(self.ours), min(self.peer)

    @property
    def medians(self) -> tuple[float, float]:
        """The median of each."""
        return statistics.median(self.ours), statistics.median(self.peer)

    @property
    def difference(self) -> float:
        """The median of what ours takes longer."""
        return statistics.median(a - b for a, b in zip(self.ours, self.peer, strict=True))


def in_pairs(
    ours: Callable[[], float], peer: Callable[[], float], rounds: int, *, warm_up: bool = True
) -> Pair:
    """Run both in turns; each returns its seconds."""
    if warm_up:
        ours()
        peer()
    found = [(ours(), peer()) for _ in range(rounds)]
    return Pair(tuple(a for a, _ in found), tuple(b for _, b in found))


def seconds_of(command: Sequence[str], env: Mapping[str, str] | None = None) -> float:
    """Run a program that has to succeed; returns the seconds that it took.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=False, cwd=ROOT, env=env)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.decode()[-2000:]}")
    return seconds


def seconds_per_call(call: Callable[[], object], seconds: float) -> float:
    """Call something for some time; returns the mean duration of a call."""
    gc.collect()
    call()
    start = time.perf_counter()
    count = 0
    while (spent := time.perf_counter() - start) < seconds or not count:
        call()
        count += 1
    return spent / count


def say(text: str) -> None:
    """Tell whoever waits what is being measured."""
    print(f"bench: {text} ...", file=sys.stderr, flush=True)
