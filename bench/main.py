"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.builds import client_lines, proxy_lines
from bench.core import gzip_lines, image_lines
from bench.exports import naming_lines, rate_lines
from bench.measure import say
from bench.options import MissingPeerError, Options
from bench.plot import svg
from bench.programs import program_lines
from bench.sizes import curves
from bench.stores import archive_lines, push_lines
from bench.table import HEAD, Line, commit, machine, row, to_json

GROUPS: dict[str, Callable[[Options], Iterator[Line]]] = {
    "core": image_lines,
    "gzip": gzip_lines,
    "exports": rate_lines,
    "naming": naming_lines,
    "programs": program_lines,
    "push": push_lines,
    "archive": archive_lines,
    "proxy": proxy_lines,
    "client": client_lines,
}
SIZES = "sizes"
_DESCRIPTION = """\
Measure what users wait for, and print one table in Markdown: what, ours, peer, ratio, goal, and whether it is
met. Each is measured in turns with its peer; ratios are medians of pairs. A peer that is missing (Go, skopeo,
docker-registry, buildkitd, buildctl, root) is named on standard error, and its lines are left out.
The exit status does not depend on what was measured.

groups: """


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    names = (*GROUPS, SIZES)
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=_DESCRIPTION + ", ".join(names),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller sizes: some minutes")
    parser.add_argument(
        "--only", metavar="GROUP[,GROUP...]", default="", help="leave out other groups (default: all)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table to FILE, as JSON")
    parser.add_argument(
        "--plots", type=Path, metavar="DIR", help=f"write the plots of {SIZES} to DIR, as SVG"
    )
    parser.add_argument(
        "--directory", type=Path, help="where to put files (default: the temporary directory)"
    )
    args = parser.parse_args(argv)
    wanted = [name for name in args.only.split(",") if name] or list(names)
    if unknown := set(wanted) - set(names):
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    print(f"commit {commit()}; {machine()}\n\n{row(HEAD)}\n|---|--:|--:|--:|--:|---|---|", flush=True)
    lines: list[Line] = []
    for name, measure in GROUPS.items():
        if name in wanted:
            _run(name, measure, args.directory, args.quick, lines)
    if args.json is not None:
        args.json.write_text(to_json(lines) + "\n", encoding="utf-8")
    if SIZES in wanted:
        _plot(args.directory, args.quick, args.plots)
    return 0


def _run(
    name: str,
    measure: Callable[[Options], Iterator[Line]],
    directory: Path | None,
    quick: bool,
    lines: list[Line],
) -> None:
    # The path of a socket has to be short.
    with tempfile.TemporaryDirectory(prefix="bench-", dir=directory) as place:
        try:
            for line in measure(Options(Path(place), quick)):
                lines.append(line)
                print(row(line.cells()), flush=True)
        except MissingPeerError as error:
            say(f"{name} is left out: {error}")


def _plot(directory: Path | None, quick: bool, plots: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=directory) as place:
        for curve in curves(Options(Path(place), quick)):
            print(f"\n{curve.title}: {curve.y} by {curve.x}")
            for name, points in curve.series.items():
                print(f"- {name}: {', '.join(f'{x:g}: {y:.3g}' for x, y in points.items())}", flush=True)
            if plots is not None:
                plots.mkdir(parents=True, exist_ok=True)
                (plots / f"{curve.name}.svg").write_text(svg(curve), encoding="utf-8")
                data = json.dumps(asdict(curve), ensure_ascii=False)
                (plots / f"{curve.name}.json").write_text(data + "\n", encoding="utf-8")
