"""BuildKit's progress messages as plain values (``moby.buildkit.v1.StatusResponse``).

Times are `Time` values in UTC with nanoseconds. `current` and `total` are usually bytes; 0 if there is
nothing to count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from exporter.image import Time


@dataclass(frozen=True, slots=True)
class ProgressGroup:
    """A group under which several vertices are shown."""

    id: str
    name: str = ""
    weak: bool = False


@dataclass(frozen=True, slots=True)
class Vertex:
    """A step of the build. The latest message about a digest replaces the earlier ones."""

    digest: str
    name: str
    inputs: tuple[str, ...] = ()
    cached: bool = False
    started: Time | None = None
    completed: Time | None = None
    error: str = ""
    group: ProgressGroup | None = None


@dataclass(frozen=True, slots=True)
class VertexStatus:
    """A part of a vertex's work, such as ``exporting layers``; keyed by vertex and id."""

    id: str
    vertex: str
    name: str = ""
    current: int = 0
    total: int = 0
    timestamp: Time | None = None
    started: Time | None = None
    completed: Time | None = None


@dataclass(frozen=True, slots=True)
class VertexLog:
    """Output of a vertex. `stream` is 1 for stdout, 2 for stderr."""

    vertex: str
    data: bytes
    stream: int = 1
    timestamp: Time | None = None


@dataclass(frozen=True, slots=True)
class SourceLines:
    """Lines of a source file, such as a Dockerfile.

    Attributes:
        filename: The frontend's name for it.
        data: Its contents.
        ranges: The first and last lines of each range, from 1.
        language: Its language, such as ``Dockerfile``.
    """

    filename: str
    data: bytes = b""
    ranges: tuple[tuple[int, int], ...] = ()
    language: str = ""


@dataclass(frozen=True, slots=True)
class VertexWarning:
    """Something that the user should know, but that is not an error. `source` is what it is about."""

    vertex: str
    short: str
    level: int = 1
    detail: tuple[str, ...] = ()
    url: str = ""
    source: SourceLines | None = None


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """One progress message: what changed since the last one."""

    vertexes: tuple[Vertex, ...] = ()
    statuses: tuple[VertexStatus, ...] = ()
    logs: tuple[VertexLog, ...] = ()
    warnings: tuple[VertexWarning, ...] = ()


StatusSink = Callable[[StatusUpdate], None]
"""Accepts an update without blocking or raising. Call it from the event loop's thread only."""
