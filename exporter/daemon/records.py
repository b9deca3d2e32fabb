"""A daemon's workers, cache records and builds as plain values."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from google.rpc import status_pb2  # type: ignore[import-untyped]

from exporter.daemon.chain import UsageRecord
from exporter.image import Platform, Time
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.pb.moby.buildkit.v1.types import worker_pb2
from exporter.pb.pb import ops_pb2
from exporter.remotes.messages.layers import time_of


class HistoryChange(enum.IntEnum):
    """What has happened to a build in a history."""

    STARTED = 0
    COMPLETE = 1
    DELETED = 2


@dataclass(frozen=True, slots=True)
class Version:
    """A daemon's version. Unknown fields are empty (before v0.11)."""

    package: str = ""
    version: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker, which executes builds.

    Attributes:
        id: Its ID.
        labels: Its properties, such as the snapshotter.
        platforms: The platforms that it can run, its own platform first.
        version: The daemon's version.
    """

    id: str
    labels: Mapping[str, str]
    platforms: tuple[Platform, ...]
    version: Version


@dataclass(frozen=True, slots=True)
class CacheRecord(UsageRecord):
    """A record of a daemon's cache.

    Attributes:
        is_mutable: Whether it can still be written to.
        is_in_use: Whether it is currently in use.
        size: The size in bytes, without its parents.
        last_used_at: When a build last used it.
        usage_count: How many times builds have used it.
        record_type: ``regular``, ``internal``, ``frontend``, ``source.local``, ``source.git.checkout`` or
            ``exec.cachemount``.
        is_shared: Whether images or other records share it.
    """

    is_mutable: bool = False
    is_in_use: bool = False
    size: int = 0
    last_used_at: Time | None = None
    usage_count: int = 0
    record_type: str = ""
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class RecordedBlob:
    """A blob that the daemon keeps with a build.

    Attributes:
        digest: Its digest.
        size: Its size in bytes.
        media_type: Its media type.
        annotations: Its annotations.
    """

    digest: str
    size: int = 0
    media_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecordedResult:
    """What a build has made for one platform.

    Attributes:
        images: The roots of the images by the index of the exporter.
        attestations: The attestations.
    """

    images: Mapping[int, RecordedBlob] = field(default_factory=dict)
    attestations: tuple[RecordedBlob, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """A build in the history.

    Attributes:
        ref: Its ID.
        frontend: The frontend.
        frontend_attrs: Its attributes.
        exporters: Types of its outputs.
        created_at: When it started.
        completed_at: When it ended; None while it runs.
        error: Why it failed; empty if it succeeded or is running.
        response: The exporters' response.
        cached_steps: The number of cached steps.
        total_steps: The number of steps.
        results: The results by platform; the key is empty if there is only one.
        logs: The blob with the progress; None if there is none yet.
        warnings: The number of warnings.
        is_pinned: Whether the record is kept until it is deleted explicitly.
    """

    ref: str
    frontend: str = ""
    frontend_attrs: Mapping[str, str] = field(default_factory=dict)
    exporters: tuple[str, ...] = ()
    created_at: Time | None = None
    completed_at: Time | None = None
    error: str = ""
    response: Mapping[str, str] = field(default_factory=dict)
    cached_steps: int = 0
    total_steps: int = 0
    results: Mapping[str, RecordedResult] = field(default_factory=dict)
    logs: RecordedBlob | None = None
    warnings: int = 0
    is_pinned: bool = False


def version_of(message: worker_pb2.BuildkitVersion) -> Version:
    """Convert a version."""
    return Version(message.package, message.version, message.revision)


def worker_of(message: worker_pb2.WorkerRecord) -> Worker:
    """Convert a worker."""
    return Worker(
        id=message.ID,
        labels=dict(message.Labels),
        platforms=tuple(map(_platform, message.platforms)),
        version=version_of(message.BuildkitVersion),
    )


def cache_records(messages: Iterable[control_pb2.UsageRecord]) -> dict[str, CacheRecord]:
    """Convert cache records, by ID. Daemons before v0.10 only name one parent, in a separate field."""
    return {
        message.ID: CacheRecord(
            id=message.ID,
            parents=tuple(message.Parents) or ((message.Parent,) if message.Parent else ()),
            description=message.Description,
            created_at=time_of(message.CreatedAt, "CreatedAt") if message.HasField("CreatedAt") else None,
            is_mutable=message.Mutable,
            is_in_use=message.InUse,
            size=message.Size,
            last_used_at=time_of(message.LastUsedAt, "LastUsedAt")
            if message.HasField("LastUsedAt")
            else None,
            usage_count=message.UsageCount,
            record_type=message.RecordType,
            is_shared=message.Shared,
        )
        for message in messages
    }


def build_of(message: control_pb2.BuildHistoryRecord) -> BuildRecord:
    """Convert a build."""
    error = status_pb2.Status.FromString(message.error).message if message.error else ""
    completed = message.HasField("CompletedAt")
    return BuildRecord(
        ref=message.Ref,
        frontend=message.Frontend,
        frontend_attrs=dict(message.FrontendAttrs),
        exporters=tuple(exporter.Type for exporter in message.Exporters),
        created_at=time_of(message.CreatedAt, "CreatedAt") if message.HasField("CreatedAt") else None,
        completed_at=time_of(message.CompletedAt, "CompletedAt") if completed else None,
        error=error,
        response=dict(message.ExporterResponse),
        cached_steps=message.numCachedSteps,
        total_steps=message.numTotalSteps,
        results=_results(message),
        logs=_blob(message.logs) if message.HasField("logs") else None,
        warnings=message.numWarnings,
        is_pinned=message.pinned,
    )


def _results(message: control_pb2.BuildHistoryRecord) -> dict[str, RecordedResult]:
    found = {platform: _result(result) for platform, result in message.Results.items()}
    return {"": _result(message.Result), **found} if message.HasField("Result") else found


def _result(message: control_pb2.BuildResultInfo) -> RecordedResult:
    images = {index: _blob(blob) for index, blob in message.Results.items()}
    if not images and message.HasField("ResultDeprecated"):  # daemons before v0.13
        images = {0: _blob(message.ResultDeprecated)}
    return RecordedResult(images, tuple(map(_blob, message.Attestations)))


def _blob(message: control_pb2.Descriptor) -> RecordedBlob:
    return RecordedBlob(message.digest, message.size, message.media_type, dict(message.annotations))


def _platform(message: ops_pb2.Platform) -> Platform:
    return Platform(
        os=message.OS,
        architecture=message.Architecture,
        variant=message.Variant,
        os_version=message.OSVersion,
        os_features=tuple(message.OSFeatures),
    )
