"""Recording an export's progress."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from exporter.progress.model import StatusUpdate, Vertex, VertexStatus


@dataclass(slots=True)
class ProgressLog:
    """Records progress messages; a `StatusSink`.

    Attributes:
        updates: All messages, in order.
    """

    updates: list[StatusUpdate] = field(default_factory=list)

    def __call__(self, update: StatusUpdate) -> None:
        """Record a message."""
        self.updates.append(update)

    @property
    def vertex(self) -> Vertex | None:
        """The last reported state of the export's vertex: its name, its error."""
        return next((v for update in reversed(self.updates) for v in reversed(update.vertexes)), None)

    @property
    def statuses(self) -> list[str]:
        """The names of all statuses, in the order in which they started."""
        return list(dict.fromkeys(status.id for status in self._all_statuses()))

    @property
    def unfinished(self) -> set[str]:
        """The names of statuses that have not been completed."""
        last = {status.id: status.completed for status in self._all_statuses()}
        return {status_id for status_id, completed in last.items() if completed is None}

    @property
    def log(self) -> str:
        """The log output."""
        data = b"".join(log.data for update in self.updates for log in update.logs)
        return data.decode("utf-8", "replace")

    @property
    def warnings(self) -> list[str]:
        """The warnings."""
        return [warning.short for update in self.updates for warning in update.warnings]

    def _all_statuses(self) -> Iterable[VertexStatus]:
        return (status for update in self.updates for status in update.statuses)
