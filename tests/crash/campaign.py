"""One export, killed at each of its points; each time repeated and compared with one that was left alone."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.destinations import OLD, Destination, Place
from tests.crash.points import MODES, Point
from tests.crash.process import Ended, end, listens, run, start

State = dict[str, str]


@dataclass
class Campaign:
    """Kills the exports to one destination.

    Attributes:
        destination: The destination.
        directory: An empty directory.
        source: A saved source.
        peer: See `Place`.
        kills: How many there were.
        problems: What went wrong.
    """

    destination: Destination
    directory: Path
    source: Path
    peer: str = ""
    kills: int = 0
    problems: list[str] = field(default_factory=list)
    _number: int = 0

    def run(self, *, sample: int = 0) -> None:
        """Kill at all points; with `sample`, at so many of them, spread evenly."""
        place = self._place()
        self._prepare(place)
        self._expect_export(place, "the export itself")
        changes = (self.directory / "trace").read_text().splitlines()
        new = self._replaced(place)
        self._expect_export(place, "its repetition")
        reference = state_of(place.path)
        shutil.rmtree(place.path)
        points = [
            Point(number, mode)
            for number, change in enumerate(changes, 1)
            for mode in (MODES if change.endswith(" half") else ("before", "after"))
        ]
        for point in _spread(points, sample):
            self._kill(point, changes[point.number - 1], reference, new)

    def _kill(self, point: Point, change: str, reference: State, new: bytes | None) -> None:
        place = self._place()
        old = self._prepare(place)
        what = f"killed {point.mode} change {point.number} ({change})"
        ended = self._export(place, at=point)
        if ended.was_killed:
            self.kills += 1
        elif ended.status != 0:  # threads may be in another order, and so may have fewer changes
            self._problem(f"{what}: status {ended.status}", ended)
        if self._replaced(place) not in {old, new}:
            self._problem(f"{what}: the file is neither the old one nor the new one", ended)
        for command in self.destination.intact(place):
            self._expect(place, command, f"{what}: what was there before")
        self._expect_export(place, f"{what}: the repetition")
        for command in self.destination.check(place):
            self._expect(place, command, f"{what}: the check")
        found = state_of(place.path)
        if found != reference:
            differences = sorted(
                f"{path}: {found.get(path, 'missing')} in place of {reference.get(path, 'nothing')}"
                for path in found.keys() | reference.keys()
                if found.get(path) != reference.get(path)
            )
            self.problems.append(f"{what}: {'; '.join(differences[:5])}")
        shutil.rmtree(place.path)

    def _place(self) -> Place:
        self._number += 1
        place = Place(self.directory / "place", self.source, self._number, self.peer)
        place.path.mkdir()
        return place

    def _prepare(self, place: Place) -> bytes | None:
        for command in self.destination.before(place):
            self._expect(place, command, "what comes before")
        if not self.destination.replaced or self._number % 2 == 0:
            return None
        (place.path / self.destination.replaced).write_bytes(OLD)
        return OLD

    def _replaced(self, place: Place) -> bytes | None:
        path = place.path / self.destination.replaced
        return path.read_bytes() if self.destination.replaced and path.exists() else None

    def _export(self, place: Place, at: Point | None = None) -> Ended:
        """Run the export, or rather the server that does it; gives how what may be killed has ended."""
        words = self.destination.export(place)
        if self.destination.server is None:
            return self._run(place, words, at)
        trace = self.directory / "trace"
        server = start(place.path, self.destination.server(place), trace=trace, at=at)
        client = Ended(0, "")
        if listens(server, place.socket):
            client = run(place.path, words, trace=self.directory / "client")
        with suppress(ProcessLookupError):
            os.kill(server, signal.SIGTERM)
        ended = end(server, trace)
        return client if client.status and not ended.was_killed else ended

    def _expect_export(self, place: Place, what: str) -> None:
        ended = self._export(place)
        if ended.status != 0:
            self._problem(f"{what} ended with status {ended.status}", ended)

    def _run(self, place: Place, words: Sequence[str], at: Point | None = None) -> Ended:
        return run(place.path, words, trace=self.directory / "trace", at=at)

    def _expect(self, place: Place, words: Sequence[str], what: str) -> None:
        ended = self._run(place, words)
        if ended.status != 0:
            self._problem(f"{what} ended with status {ended.status}", ended)

    def _problem(self, what: str, ended: Ended) -> None:
        self.problems.append(f"{what}:\n    " + "\n    ".join(ended.text.strip().splitlines()[-8:]))


def state_of(directory: Path) -> State:
    """The files: paths with kinds and contents, without times."""
    return dict(_entries(directory))


def _entries(directory: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(directory.rglob("*")):
        mode = path.lstat().st_mode
        kind = stat.filemode(mode)
        if stat.S_ISREG(mode):
            kind += f" {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
        elif stat.S_ISLNK(mode):
            kind += f" {path.readlink()}"
        yield str(path.relative_to(directory)), kind


def _spread(points: Sequence[Point], sample: int) -> Sequence[Point]:
    if not 0 < sample < len(points):
        return points
    return [points[len(points) * (2 * position + 1) // (2 * sample)] for position in range(sample)]
