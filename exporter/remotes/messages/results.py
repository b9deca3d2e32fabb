"""Build results and progress as messages: what a daemon sends to an exporter, and what it receives."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.timestamp_pb2 import Timestamp

from exporter.image import Time
from exporter.pb.buildkit.exporter.v1 import exporter_pb2
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.pb.moby.buildkit.v1.frontend import gateway_pb2
from exporter.progress.model import (
    ProgressGroup,
    SourceLines,
    StatusUpdate,
    Vertex,
    VertexLog,
    VertexStatus,
    VertexWarning,
)
from exporter.source.types import Attestation, BuildInfo, Ref, Source


def refs_of(source: Source) -> dict[str, Ref]:
    """All refs of a result by ID, including those of attestations."""
    return {ref.id: ref for ref in _refs(source) if ref is not None}


def _refs(source: Source) -> Iterator[Ref | None]:
    yield source.ref
    yield from (source.refs or {}).values()
    for attestations in source.attestations.values():
        yield from (attestation.ref for attestation in attestations)


def late_attestations(source: Source) -> dict[str, Attestation]:
    """The attestations whose content `source_message` leaves out, by the ID of their content."""
    return {
        _content_id(platform, index): attestation
        for platform, attestations in source.attestations.items()
        for index, attestation in enumerate(attestations)
        if _is_late(attestation)
    }


def _is_late(attestation: Attestation) -> bool:
    return attestation.content is None and attestation.load_content is not None


def _content_id(platform: str, index: int) -> str:
    return f"{index}-{platform}"


def source_message(source: Source) -> exporter_pb2.Source:
    """Write a result. It only contains the IDs of refs, whose layers the exporter requests separately.

    The same is true for content of attestations that has yet to be created; see `late_attestations`.
    """
    message = exporter_pb2.Source(
        metadata=dict(source.metadata),
        attestations={
            key: exporter_pb2.AttestationList(
                attestations=[
                    _attestation(attestation, _content_id(key, index))
                    for index, attestation in enumerate(attestations)
                ]
            )
            for key, attestations in source.attestations.items()
        },
    )
    if source.refs is not None:
        message.refs.CopyFrom(exporter_pb2.RefMap(refs={key: _ref(ref) for key, ref in source.refs.items()}))
    elif source.ref is not None:
        message.ref.CopyFrom(_ref(source.ref))
    return message


def build_message(build: BuildInfo, session_id: str) -> exporter_pb2.BuildInfo:
    """Write the information about a build whose client is reachable through `session_id`."""
    return exporter_pb2.BuildInfo(
        ref=build.ref,
        session_id=session_id,
        compatibility_version=build.compatibility_version,
        inline_cache=dict(build.inline_cache),
        builder=build.builder,
    )


def _ref(ref: Ref | None) -> exporter_pb2.Ref:
    return exporter_pb2.Ref(id=ref.id if ref is not None else "")


def _attestation(attestation: Attestation, content_id: str) -> exporter_pb2.Attestation:
    message = exporter_pb2.Attestation(
        kind=gateway_pb2.AttestationKind.ValueType(attestation.kind.value),
        path=attestation.path,
        predicate_type=attestation.predicate_type,
        subjects=[
            exporter_pb2.Subject(
                kind=gateway_pb2.InTotoSubjectKind.ValueType(subject.kind.value),
                name=subject.name,
                digests=subject.digests,
            )
            for subject in attestation.subjects
        ],
        metadata=dict(attestation.metadata),
        content=attestation.content,
        content_id=content_id if _is_late(attestation) else "",
    )
    if attestation.ref is not None:
        message.ref.CopyFrom(_ref(attestation.ref))
    return message


def status_update(message: control_pb2.StatusResponse) -> StatusUpdate:
    """Read a progress message."""
    return StatusUpdate(
        vertexes=tuple(map(_vertex, message.vertexes)),
        statuses=tuple(map(_status, message.statuses)),
        logs=tuple(
            VertexLog(log.vertex, log.msg, log.stream, time_or_none(log.timestamp, log.HasField("timestamp")))
            for log in message.logs
        ),
        warnings=tuple(map(_warning, message.warnings)),
    )


def _warning(message: control_pb2.VertexWarning) -> VertexWarning:
    source = None
    if message.HasField("info"):
        ranges = tuple((part.start.line, max(part.start.line, part.end.line)) for part in message.ranges)
        source = SourceLines(message.info.filename, message.info.data, ranges, message.info.language)
    return VertexWarning(
        message.vertex,
        message.short.decode("utf-8", "replace"),
        message.level,
        tuple(line.decode("utf-8", "replace") for line in message.detail),
        message.url,
        source,
    )


def _vertex(message: control_pb2.Vertex) -> Vertex:
    group = message.progressGroup
    return Vertex(
        digest=message.digest,
        name=message.name,
        inputs=tuple(message.inputs),
        cached=message.cached,
        started=time_or_none(message.started, message.HasField("started")),
        completed=time_or_none(message.completed, message.HasField("completed")),
        error=message.error,
        group=ProgressGroup(group.id, group.name, group.weak) if message.HasField("progressGroup") else None,
    )


def _status(message: control_pb2.VertexStatus) -> VertexStatus:
    return VertexStatus(
        id=message.ID,
        vertex=message.vertex,
        name=message.name,
        current=message.current,
        total=message.total,
        timestamp=time_or_none(message.timestamp, message.HasField("timestamp")),
        started=time_or_none(message.started, message.HasField("started")),
        completed=time_or_none(message.completed, message.HasField("completed")),
    )


def time_or_none(message: Timestamp, is_set: bool) -> Time | None:
    """Read a time of a progress message; None if it is not set."""
    return Time.from_unix(message.seconds, message.nanos) if is_set else None
