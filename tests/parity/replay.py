"""Exporting a saved source by the command line, in this process."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.cli.main import main


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


def run(*words: str) -> Done:
    """Run a command of ``buildkit-exporter``."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", newline="", write_through=True) for _ in range(2)]
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        try:
            status = main(words)
        except SystemExit as end:
            status = int(end.code or 0)
    out, err = (stream.buffer.getvalue().decode() for stream in streams)
    return Done(status, out, err)


@dataclass(frozen=True)
class Replay:
    """The outcome of an export.

    Attributes:
        status: Of the process.
        error: What it said if it failed, but for the usage.
        response: The exporter's, as in the metadata file.
        progress: The vertices by name, and what was reported on them, in the order in which it began.
        output: Where a file or directory was to go.
        root: The directory of the embedded store.
    """

    status: int
    error: str
    response: dict[str, Any]
    progress: dict[str, list[str]]
    output: Path
    root: Path


def replay(source: Path, exporter_type: str, attrs: Mapping[str, str], directory: Path) -> Replay:
    """Export a saved source.

    Args:
        source: The saved source.
        exporter_type: The type of the output.
        attrs: Its attributes, ``dest`` not among them.
        directory: An empty one, for all that is written.
    """
    output, root, metadata = directory / "output", directory / "root", directory / "metadata.json"
    registries = directory / "docker.json"
    registries.write_text("{}")
    words = {"type": exporter_type, **attrs}
    if exporter_type in {"oci", "docker", "tar", "local"}:
        words["dest"] = str(output)
    options: dict[str, str | Path] = {
        "--source": source,
        "--output": _fields(f"{key}={value}" for key, value in words.items()),
        "--root": root,
        "--metadata-file": metadata,
        "--progress": "rawjson",
        "--registry-config": registries,
    }
    done = run("export", *(str(word) for option in options.items() for word in option))
    lines = done.err.splitlines()
    updates = [json.loads(line) for line in lines if line.startswith("{")]
    return Replay(
        status=done.status,
        error="\n".join(line for line in lines if not line.startswith(("{", "Usage: "))),
        response=json.loads(metadata.read_bytes()) if metadata.exists() else {},
        progress=_progress(updates),
        output=output,
        root=root,
    )


def _fields(fields: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(fields)
    return text.getvalue()


def _progress(updates: list[dict[str, Any]]) -> dict[str, list[str]]:
    names: dict[str, str] = {}
    found: dict[str, dict[str, None]] = {}
    for update in updates:
        for vertex in update.get("vertexes", ()):
            names[vertex["digest"]] = vertex["name"]
            found.setdefault(vertex["name"], {})
        for status in update.get("statuses", ()):
            found[names[status["vertex"]]][status["id"]] = None
    return {vertex: list(statuses) for vertex, statuses in found.items()}
