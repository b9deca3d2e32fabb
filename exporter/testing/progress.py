"""What an export has reported."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from exporter.progress.model import StatusUpdate, Vertex, VertexStatus


@dataclass(slots=True)
class ProgressLog:
    """Takes progress messages; a `StatusSink`.

    Attributes:
        updates: All messages, in order.
    """

    updates: list[StatusUpdate] = field(default_factory=list)

    def __call__(self, update: StatusUpdate) -> None:
        """Take a message."""
        self.updates.append(update)

    @property
    def vertex(self) -> Vertex | None:
        """The export's vertex as it was reported last: its name, its error."""
        return next((v for update in reversed(self.updates) for v in reversed(update.vertexes)), None)

    @property
    def statuses(self) -> list[str]:
        """The pieces of work, in the order in which they began."""
        return list(dict.fromkeys(status.id for status in self._all_statuses()))

    @property
    def unfinished(self) -> set[str]:
        """The pieces of work whose end was not reported."""
        last = {status.id: status.completed for status in self._all_statuses()}
        return {status_id for status_id, completed in last.items() if completed is None}

    @property
    def log(self) -> str:
        """What was written for people to read."""
        data = b"".join(log.data for update in self.updates for log in update.logs)
        return data.decode("utf-8", "replace")

    @property
    def warnings(self) -> list[str]:
        """What the user was warned of."""
        return [warning.short for update in self.updates for warning in update.warnings]

    def _all_statuses(self) -> Iterable[VertexStatus]:
        return (status for update in self.updates for status in update.statuses)
