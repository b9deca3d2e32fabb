"""The vertex of an export: the daemon's, which ours takes over."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.image import Time
from exporter.progress.model import StatusUpdate, Vertex, VertexLog, VertexWarning
from exporter.progress.producer import now

if TYPE_CHECKING:
    # Local exports only need the digest, and protobuf takes longer to load than they take.
    from exporter.pb.moby.buildkit.v1 import control_pb2

_KEPT = {
    "exporting layers": "preparing layers",
    "preparing layers for inline cache": "preparing layers for inline cache",
}
"""The daemon's steps that also serve our exporter, with the names to show. Our exporter's own
``exporting layers`` follows."""


def vertex_digest(session_id: str, index: int) -> str:
    """The digest of an export's vertex, as a daemon computes it."""
    return f"sha256:{hashlib.sha256(f'{session_id}-export-{index}'.encode()).hexdigest()}"


class _Phase(enum.Enum):
    DAEMON = enum.auto()
    """The daemon works, or nothing has started."""
    OURS = enum.auto()
    """The exporter works."""
    ENDED = enum.auto()
    """The export has ended; only finalizing can follow."""


class ExportVertex:
    """Merges what the daemon and the exporter report about one export.

    Args:
        session_id: The client's session.
        index: The index of the exporter among all exporters of the build.
        name: The name to show.
        emit: Receives updates to show in addition to the daemon's messages.
    """

    def __init__(self, session_id: str, index: int, name: str, emit: Callable[[StatusUpdate], None]) -> None:
        self.digest = vertex_digest(session_id, index)
        self._name = name
        self._emit = emit
        self._phase = _Phase.DAEMON
        self._started: Time | None = None

    def begin(self) -> None:
        """From now on, show the exporter's updates."""
        self._phase = _Phase.OURS

    def warn(self, text: str) -> None:
        """Show a warning."""
        self._emit(StatusUpdate(warnings=(VertexWarning(self.digest, text),)))

    def log(self, text: str) -> None:
        """Show a line of output."""
        line = VertexLog(self.digest, f"{text}\n".encode("utf-8", "replace"), timestamp=now())
        self._emit(StatusUpdate(logs=(line,)))

    def end(self, error: str = "") -> None:
        """End the vertex. A no-op if the exporter has already ended it."""
        if self._phase is not _Phase.ENDED:
            self._phase = _Phase.ENDED
            started = self._started or now()
            vertex = Vertex(self.digest, self._name, started=started, completed=now(), error=error)
            self._emit(StatusUpdate(vertexes=(vertex,)))

    def report(self, update: StatusUpdate) -> None:
        """Show the exporter's updates. The digest of its vertex is ignored."""
        vertexes = []
        for vertex in update.vertexes:
            if self._phase is _Phase.ENDED:  # publishing
                vertexes.append(replace(vertex, digest=self.digest))
            elif vertex.completed is not None:
                self._phase = _Phase.ENDED
                started = self._started or vertex.started
                vertexes.append(replace(vertex, digest=self.digest, started=started))
            # The daemon's vertex has already started.
        self._emit(
            StatusUpdate(
                vertexes=tuple(vertexes),
                statuses=tuple(replace(status, vertex=self.digest) for status in update.statuses),
                logs=tuple(replace(log, vertex=self.digest) for log in update.logs),
                warnings=tuple(replace(warning, vertex=self.digest) for warning in update.warnings),
            )
        )

    def rewrite(self, message: control_pb2.StatusResponse) -> None:
        """Rewrite the daemon's messages about the vertex for the client."""
        for position in reversed(range(len(message.vertexes))):
            vertex = message.vertexes[position]
            if vertex.digest == self.digest and not self._shows(vertex):
                del message.vertexes[position]
        for position in reversed(range(len(message.statuses))):
            status = message.statuses[position]
            if status.vertex == self.digest:
                if status.ID in _KEPT:
                    status.ID = _KEPT[status.ID]
                else:
                    del message.statuses[position]

    def _shows(self, vertex: control_pb2.Vertex) -> bool:
        vertex.name = self._name
        from exporter.remotes.messages.results import time_or_none

        if vertex.HasField("started"):
            self._started = time_or_none(vertex.started, True)
        if not vertex.HasField("completed"):
            return self._phase is not _Phase.ENDED
        # The daemon's exporter ends after ours, with its own error about the rejected tar. If it ends
        # earlier, the build was cancelled or there is nothing to export.
        if self._phase is not _Phase.DAEMON:
            return False
        self._phase = _Phase.ENDED
        return True
