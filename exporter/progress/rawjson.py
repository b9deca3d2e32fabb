"""Progress as JSON lines: BuildKit's ``client.SolveStatus`` (``client/graph.go``) as Go marshals it."""

from __future__ import annotations

import base64
from typing import BinaryIO

from exporter.image import Time
from exporter.image.go import json as gojson
from exporter.progress.model import (
    ProgressGroup,
    StatusUpdate,
    Vertex,
    VertexLog,
    VertexStatus,
    VertexWarning,
)

_NO_TIME = Time.from_unix(0)  # what Go's client reads from a message without a timestamp


class RawJSONRenderer:
    """Writes each update as a line of JSON.

    Args:
        stream: Where to write.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def update(self, update: StatusUpdate) -> None:
        """Write the update."""
        self._stream.write(marshal_update(update) + b"\n")
        self._stream.flush()

    def refresh(self) -> None:
        """Do nothing: `update` has written everything."""

    def close(self) -> None:
        """Do nothing: `update` has written everything."""


def marshal_update(update: StatusUpdate) -> bytes:
    """The update as one line of JSON, without a line feed.

    Keys, their order and the omission of empty values are those of ``client.SolveStatus``; times are RFC 3339
    in UTC.
    """
    return gojson.marshal(
        _without_empty(
            {
                "vertexes": [_vertex(vertex) for vertex in update.vertexes],
                "statuses": [_status(status) for status in update.statuses],
                "logs": [_log(log) for log in update.logs],
                "warnings": [_warning(warning) for warning in update.warnings],
            }
        )
    )


def _vertex(vertex: Vertex) -> dict[str, object]:
    return _without_empty(
        {
            "digest": vertex.digest,
            "inputs": list(vertex.inputs),
            "name": vertex.name,
            "started": _time(vertex.started),
            "completed": _time(vertex.completed),
            "cached": vertex.cached,
            "error": vertex.error,
            "progressGroup": _group(vertex.group) if vertex.group is not None else None,
        },
        keep=("progressGroup",) if vertex.group is not None else (),
    )


def _group(group: ProgressGroup) -> dict[str, object]:
    return _without_empty({"id": group.id, "name": group.name, "weak": group.weak})


def _status(status: VertexStatus) -> dict[str, object]:
    return _without_empty(
        {
            "id": status.id,
            "vertex": status.vertex,
            "name": status.name,
            "total": status.total,
            "current": status.current,
            "timestamp": _time(status.timestamp or _NO_TIME),
            "started": _time(status.started),
            "completed": _time(status.completed),
        },
        keep=("id", "current"),
    )


def _log(log: VertexLog) -> dict[str, object]:
    # Protobuf does not transmit empty fields; Go's client reads nil.
    data = _base64(log.data) if log.data else None
    return _without_empty(
        {
            "vertex": log.vertex,
            "stream": log.stream,
            "data": data,
            "timestamp": _time(log.timestamp or _NO_TIME),
        },
        keep=("data",),
    )


def _warning(warning: VertexWarning) -> dict[str, object]:
    return _without_empty(
        {
            "vertex": warning.vertex,
            "level": warning.level,
            "short": _base64(warning.short.encode("utf-8", "surrogateescape")),
            "detail": [_base64(line.encode("utf-8", "surrogateescape")) for line in warning.detail],
            "url": warning.url,
        }
    )


def _without_empty(fields: dict[str, object], keep: tuple[str, ...] = ()) -> dict[str, object]:
    """Drop empty fields as Go's ``omitempty`` does, except for those in `keep`."""
    return {name: value for name, value in fields.items() if value or name in keep}


def _time(moment: Time | None) -> str | None:
    return str(Time.from_unix_nano(moment.unix_nano)) if moment is not None else None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
