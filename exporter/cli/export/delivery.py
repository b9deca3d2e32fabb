"""Where the artifact of an output goes while it is exported: a path, standard output, a Docker engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from exporter.cli.outputs import Destination, EngineDestination, Output
from exporter.exporters.base import Output as ExporterOutput
from exporter.exporters.output import LocalOutput
from exporter.image.keys import ENGINE_IMAGE_ID, ENGINE_IMAGE_NAME
from exporter.progress.model import StatusSink

if TYPE_CHECKING:
    from exporter.exporters.docker_engine import DockerEngineOutput


class Delivery:
    """One output on its way.

    Args:
        destination: Where to.
        sink: Takes the progress of what happens there.

    Attributes:
        output: Takes the artifact.
    """

    def __init__(self, destination: Destination | EngineDestination, sink: StatusSink) -> None:
        self.output: ExporterOutput
        self._engine: DockerEngineOutput | None = None
        if isinstance(destination, EngineDestination):
            from exporter.exporters.docker_engine import DockerEngineOutput

            self.output = self._engine = DockerEngineOutput(destination.address, sink=sink)
        else:
            self.output = LocalOutput(destination.path)

    @property
    def response(self) -> Mapping[str, str]:
        """What to add to the exporter's response, once the artifact is there."""
        if self._engine is None:
            return {}
        ids = dict.fromkeys(image.id for image in self._engine.images)
        names = dict.fromkeys(image.name for image in self._engine.images if image.name)
        found = {ENGINE_IMAGE_ID: ",".join(ids), ENGINE_IMAGE_NAME: ",".join(names)}
        return {key: value for key, value in found.items() if value}


async def check_engines(outputs: Sequence[Output]) -> None:
    """Find out whether all Docker engines are there, before there is anything to load.

    Raises:
        ExporterError: one is not.
    """
    for output in outputs:
        if isinstance(output.destination, EngineDestination):
            from exporter.remotes.docker_engine.engine import DockerEngine

            async with DockerEngine(output.destination.address):
                pass
