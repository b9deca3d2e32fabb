"""Delivering the artifact of an output to a path, standard output or a Docker engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from exporter.cli.outputs import Destination as OutputDestination
from exporter.cli.outputs import EngineDestination, Output
from exporter.exporters.destinations import Output as ExporterOutput
from exporter.exporters.output import LocalOutput
from exporter.image.keys import ENGINE_IMAGE_ID, ENGINE_IMAGE_NAME
from exporter.progress.model import StatusSink
from exporter.takeover.backend import Destination, Exported

if TYPE_CHECKING:
    from exporter.exporters.docker_engine import DockerEngineOutput


class Delivery(Protocol):
    """The delivery of one output's artifact."""

    @property
    def destination(self) -> Destination:
        """The destination for the backend."""
        ...

    @property
    def response(self) -> Mapping[str, str]:
        """The keys to add to the exporter's response after the delivery."""
        ...

    async def commit(self, exported: Exported) -> None:
        """Keep the received artifact, because the export has succeeded."""
        ...


class OutputPlace:
    """The final place of an artifact: a path, standard output or a Docker engine. See `output_place`.

    Attributes:
        output: Receives the artifact.
    """

    def __init__(self, output: ExporterOutput, engine: DockerEngineOutput | None = None) -> None:
        self.output = output
        self._engine = engine

    @property
    def response(self) -> Mapping[str, str]:
        """See `Delivery.response`."""
        if self._engine is None:
            return {}
        ids = dict.fromkeys(image.id for image in self._engine.images)
        names = dict.fromkeys(image.name for image in self._engine.images if image.name)
        found = {ENGINE_IMAGE_ID: ",".join(ids), ENGINE_IMAGE_NAME: ",".join(names)}
        return {key: value for key, value in found.items() if value}


def output_place(destination: OutputDestination | EngineDestination, sink: StatusSink) -> OutputPlace:
    """Create the final place of an artifact.

    Args:
        destination: The destination.
        sink: Receives the progress of loading.
    """
    if not isinstance(destination, EngineDestination):
        return OutputPlace(LocalOutput(destination.path))
    from exporter.exporters.docker_engine import DockerEngineOutput

    engine = DockerEngineOutput(destination.address, sink=sink)
    return OutputPlace(engine, engine)


class LocalDelivery:
    """The delivery from an exporter in this process, which writes to the destination itself."""

    def __init__(self, output: Output, sink: StatusSink) -> None:
        destination = output.destination
        self._place = output_place(destination, sink) if destination is not None else None

    @classmethod
    @asynccontextmanager
    async def open(cls, index: int, output: Output, sink: StatusSink) -> AsyncIterator[LocalDelivery]:
        """Prepare a delivery. The index does not matter."""
        yield cls(output, sink)

    @property
    def destination(self) -> Destination:
        """See `Delivery.destination`."""
        return Destination(self._place.output if self._place is not None else None)

    @property
    def response(self) -> Mapping[str, str]:
        """See `Delivery.response`."""
        return self._place.response if self._place is not None else {}

    async def commit(self, exported: Exported) -> None:
        """Do nothing: the exporter has committed what it wrote."""


async def check_engines(outputs: Sequence[Output]) -> None:
    """Check that all Docker engines are reachable, before the export starts.

    Raises:
        ExporterError: an engine is not reachable.
    """
    for output in outputs:
        if isinstance(output.destination, EngineDestination):
            from exporter.remotes.docker_engine.engine import DockerEngine

            async with DockerEngine(output.destination.address):
                pass
