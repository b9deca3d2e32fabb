"""Progress as ``moby.buildkit.v1.StatusResponse``."""

from __future__ import annotations

from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.pb.pb import ops_pb2
from exporter.progress.model import (
    ProgressGroup,
    SourceLines,
    StatusUpdate,
    Vertex,
    VertexLog,
    VertexStatus,
    VertexWarning,
)
from exporter.remotes.messages.layers import timestamp


def status_response(update: StatusUpdate) -> control_pb2.StatusResponse:
    """Write an update as a message."""
    return control_pb2.StatusResponse(
        vertexes=[_vertex(vertex) for vertex in update.vertexes],
        statuses=[_status(status) for status in update.statuses],
        logs=[_log(log) for log in update.logs],
        warnings=[_warning(warning) for warning in update.warnings],
    )


def _vertex(vertex: Vertex) -> control_pb2.Vertex:
    return control_pb2.Vertex(
        digest=vertex.digest,
        inputs=vertex.inputs,
        name=_text(vertex.name),
        cached=vertex.cached,
        started=timestamp(vertex.started),
        completed=timestamp(vertex.completed),
        error=_text(vertex.error),
        progressGroup=_group(vertex.group),
    )


def _status(status: VertexStatus) -> control_pb2.VertexStatus:
    return control_pb2.VertexStatus(
        ID=_text(status.id),
        vertex=status.vertex,
        name=_text(status.name),
        current=status.current,
        total=status.total,
        timestamp=timestamp(status.timestamp),
        started=timestamp(status.started),
        completed=timestamp(status.completed),
    )


def _log(log: VertexLog) -> control_pb2.VertexLog:
    return control_pb2.VertexLog(
        vertex=log.vertex, timestamp=timestamp(log.timestamp), stream=log.stream, msg=log.data
    )


def _warning(warning: VertexWarning) -> control_pb2.VertexWarning:
    return control_pb2.VertexWarning(
        vertex=warning.vertex,
        level=warning.level,
        short=_text(warning.short).encode(),
        detail=[_text(line).encode() for line in warning.detail],
        url=warning.url,
        info=_source(warning.source),
        ranges=[
            ops_pb2.Range(start=ops_pb2.Position(line=first), end=ops_pb2.Position(line=last))
            for first, last in (warning.source.ranges if warning.source is not None else ())
        ],
    )


def _source(source: SourceLines | None) -> ops_pb2.SourceInfo | None:
    if source is None:
        return None
    return ops_pb2.SourceInfo(
        filename=_text(source.filename), data=source.data, language=_text(source.language)
    )


def _group(group: ProgressGroup | None) -> ops_pb2.ProgressGroup | None:
    if group is None:
        return None
    return ops_pb2.ProgressGroup(id=_text(group.id), name=_text(group.name), weak=group.weak)


def _text(text: str) -> str:
    """Escape what cannot be encoded in UTF-8: file names may contain arbitrary bytes."""
    return text.encode("utf-8", "backslashreplace").decode()
