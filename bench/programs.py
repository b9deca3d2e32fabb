"""Programs that users wait for: how long the command line takes for little work."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.measure import OURS, in_pairs, say, seconds_of
from bench.options import Options
from bench.sources import make_source
from bench.table import Line

HELP_GOAL, EXPORT_GOAL = 0.08, 0.15


def program_lines(options: Options) -> Iterator[Line]:
    """Measure ``--help`` and a small ``export``, next to an interpreter that does nothing."""
    yield _line(options, "buildkit-exporter --help", ["--help"], HELP_GOAL)
    yield _line(options, "buildkit-exporter build --help", ["build", "--help"], HELP_GOAL)
    source, root = options.directory / "small", options.directory / "small-root"
    make_source(source, [10_000])
    archive = options.directory / "small.tar"
    words = ["export", "--source", str(source), "--output", f"type=oci,dest={archive}", "--root", str(root)]
    yield _line(
        options, "export of a small build as an OCI archive", [*words, "--progress", "plain"], EXPORT_GOAL
    )
    shutil.rmtree(root, ignore_errors=True)


def _line(options: Options, what: str, words: Sequence[str], goal: float) -> Line:
    say(what)
    script = Path(sys.executable).with_name("buildkit-exporter")
    command = [str(script)] if script.exists() else list(OURS)
    pair = in_pairs(
        lambda: seconds_of([*command, *words]),
        lambda: seconds_of([sys.executable, "-c", "pass"]),
        options.pick(15, 5),
    )
    ours, peer = pair.best
    return Line(
        "programs",
        what,
        ours,
        "s",
        value=ours,
        peer=peer,
        peer_name="python -c pass",
        goal=goal,
        note="best round",
    )
