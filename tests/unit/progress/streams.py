"""Recorded progress streams."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from exporter.image import Time
from exporter.progress import (
    ProgressGroup,
    StatusUpdate,
    Vertex,
    VertexLog,
    VertexStatus,
    VertexWarning,
)

DATA = Path(__file__).parents[2] / "data" / "progress"


def lines(name: str) -> list[bytes]:
    return read(f"{name}.ndjson.gz").splitlines()


def read(name: str) -> bytes:
    return gzip.decompress((DATA / name).read_bytes())


def updates(name: str) -> list[StatusUpdate]:
    return [parse(json.loads(line)) for line in lines(name)]


def parse(message: dict[str, Any]) -> StatusUpdate:
    return StatusUpdate(
        vertexes=tuple(
            Vertex(
                digest=v["digest"],
                name=v.get("name", ""),
                inputs=tuple(v.get("inputs", ())),
                cached=v.get("cached", False),
                started=_time(v, "started"),
                completed=_time(v, "completed"),
                error=v.get("error", ""),
                group=ProgressGroup(**v["progressGroup"]) if "progressGroup" in v else None,
            )
            for v in message.get("vertexes", ())
        ),
        statuses=tuple(
            VertexStatus(
                id=s["id"],
                vertex=s.get("vertex", ""),
                name=s.get("name", ""),
                current=s["current"],
                total=s.get("total", 0),
                timestamp=_time(s, "timestamp"),
                started=_time(s, "started"),
                completed=_time(s, "completed"),
            )
            for s in message.get("statuses", ())
        ),
        logs=tuple(
            VertexLog(log["vertex"], base64.b64decode(log["data"]), log["stream"], _time(log, "timestamp"))
            for log in message.get("logs", ())
        ),
        warnings=tuple(
            VertexWarning(
                w["vertex"],
                _text(w["short"]),
                w["level"],
                tuple(_text(d) for d in w.get("detail", ())),
                w["url"],
            )
            for w in message.get("warnings", ())
        ),
    )


def totals(stream: Iterable[StatusUpdate]) -> tuple[int, int]:
    """How many vertices and logs a stream has."""
    found = list(stream)
    return sum(len(u.vertexes) for u in found), sum(len(u.logs) for u in found)


def _time(fields: dict[str, Any], name: str) -> Time | None:
    return Time.parse(fields[name]) if name in fields else None


def _text(data: str) -> str:
    return base64.b64decode(data).decode()
