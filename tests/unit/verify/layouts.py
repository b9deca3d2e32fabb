"""OCI layouts that were tampered with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from exporter.cli.verify.places import Selection, verify_place
from exporter.image import digest_bytes
from exporter.progress.producer import VertexProgress
from exporter.verify import Outcome, Report
from tests.builds import scenario

Step = str | int
Change = Callable[[bytes], bytes]

ROOT: tuple[Step, ...] = ("manifests", 0)
"""The way from ``index.json`` to its first entry."""


class Tampered:
    """A copy of a recorded layout.

    Args:
        name: Of the recorded build.
        directory: An empty directory.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.path = directory / "layout"
        shutil.copytree(scenario(name) / "oci", self.path)

    def blob(self, digest: str) -> Path:
        return self.path / "blobs" / digest.replace(":", "/")

    def descriptor(self, *steps: Step) -> dict[str, Any]:
        """The descriptor that a way leads to, each two or so steps of it through one document."""
        document = json.loads((self.path / "index.json").read_bytes())
        found: dict[str, Any] = {}
        for way in _ways(steps):
            found = _at(document, way)
            if found["mediaType"].endswith("json"):
                document = json.loads(self.blob(found["digest"]).read_bytes())
        return found

    def path_of(self, *steps: Step) -> Path:
        """The file of the blob that a way leads to."""
        return self.blob(self.descriptor(*steps)["digest"])

    def damage(self, *steps: Step, at: int = -1) -> None:
        """Flip a bit of a blob, and change nothing else."""
        path = self.path_of(*steps)
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)

    def change(self, *steps: Step, by: Change) -> None:
        """Change a blob, and write all documents on the way to it anew, so that their digests are right."""
        index = self.path / "index.json"
        index.write_bytes(self._changed(index.read_bytes(), _ways(steps), by))

    def change_json(self, *steps: Step, by: Callable[[Any], object]) -> None:
        """Like `change`, for documents; `by` changes what was read of it."""
        self.change(*steps, by=lambda data: _json(data, by))

    def change_index(self, by: Callable[[Any], object]) -> None:
        """Change ``index.json``."""
        index = self.path / "index.json"
        index.write_bytes(_json(index.read_bytes(), by))

    def _changed(self, data: bytes, ways: list[tuple[Step, ...]], by: Change) -> bytes:
        if not ways:
            return by(data)
        document = json.loads(data)
        descriptor = _at(document, ways[0])
        new = self._changed(self.blob(descriptor["digest"]).read_bytes(), ways[1:], by)
        descriptor.update(digest=digest_bytes(new), size=len(new))
        self.blob(descriptor["digest"]).write_bytes(new)
        return json.dumps(document).encode()


def _json(data: bytes, by: Callable[[Any], object]) -> bytes:
    document = json.loads(data)
    by(document)
    return json.dumps(document).encode()


def _ways(steps: Iterable[Step]) -> list[tuple[Step, ...]]:
    """The steps within each document: a list is followed by a position."""
    ways: list[tuple[Step, ...]] = []
    for step in steps:
        if isinstance(step, int):
            ways[-1] += (step,)
        else:
            ways.append((step,))
    return ways


def _at(document: Any, way: tuple[Step, ...]) -> Any:
    for step in way:
        document = document[step]
    return document


async def verify(place: Path | str, **selection: Any) -> Report:
    return await verify_place(Selection(str(place), **selection), VertexProgress(lambda _: None, "x"))


def found(report: Report, outcome: Outcome = Outcome.PROBLEM) -> list[tuple[str, str, str]]:
    """Kind, path and check of each problem. Blobs of no image are left out: what was changed leaves them."""
    return [
        (result.subject.kind, result.subject.path, result.check)
        for result in report.results
        if result.outcome is outcome and result.subject.image != "(of no image)"
    ]


def texts(report: Report) -> str:
    return "\n".join(
        f"{finding.where}: {finding.what}" for result in report.results for finding in result.findings
    )
