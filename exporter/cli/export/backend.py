"""Who does an export's work: this process, or a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from exporter.cli.descriptions import ExporterDescription
from exporter.cli.outputs import Output
from exporter.progress.model import StatusSink


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export gave. `token` is empty if there is nothing to finalize."""

    response: Mapping[str, str]
    token: str = ""


class Backend(Protocol):
    """Runs the exports of one build result; the calls come in this order."""

    async def describe(self, exporter_type: str) -> ExporterDescription:
        """Tell about a type.

        Raises:
            NotFoundError: there is no such type.
        """
        ...

    async def resolve(self, outputs: Sequence[Output]) -> None:
        """Check all outputs before any work is done.

        Raises:
            ImageError, InvalidArgumentError: an attribute cannot be used.
        """
        ...

    async def export(self, index: int, sink: StatusSink) -> Exported:
        """Make the artifact of the output at `index`."""
        ...

    async def finalize(self, index: int, token: str, sink: StatusSink) -> Mapping[str, str]:
        """Publish it; returns response keys to lay over the others."""
        ...
