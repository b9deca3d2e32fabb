"""The outputs of a build: which of them the daemon makes, and which are ours."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from exporter.cli.descriptions import ExporterDescription, describe
from exporter.cli.export.delivery import Delivery
from exporter.cli.failures import UsageError
from exporter.cli.outputs import (
    Destination,
    EngineDestination,
    Output,
    OutputOption,
    check_destinations,
    place_output,
)
from exporter.client import Export, OurExport
from exporter.client.dockerd_image import MOBY_EXPORTER
from exporter.daemon.services.receive_directory import ReceivedDirectory
from exporter.errors import NotFoundError
from exporter.exporters.base import ArtifactKind
from exporter.exporters.registry import Registry
from exporter.progress.model import StatusSink
from exporter.takeover.backend import Backend
from exporter.takeover.plan import DAEMON_TYPES, PLUGIN_PREFIX

_NAME = "name"
_ENGINE_IMAGE_TYPES = frozenset({"docker", "image", MOBY_EXPORTER})
_ENGINE_FILE_TYPES = frozenset({"local", "tar"})


@dataclass(frozen=True, slots=True)
class BuildOutput:
    """An output, and who makes it.

    Attributes:
        output: What is wanted.
        is_ours: Whether it runs here.
        is_tree: Whether a directory that it goes to takes files, not an OCI layout.
    """

    output: Output
    is_ours: bool = False
    is_tree: bool = False


@dataclass(slots=True)
class Deliveries:
    """Outputs that are loaded into Docker engines, which add something to the response.

    Attributes:
        sink: Takes the progress of what happens there.
    """

    sink: StatusSink
    _deliveries: list[Delivery] = field(default_factory=list)

    def export_of(self, item: BuildOutput, backend: Backend | None) -> Export | OurExport:
        """The output as the client is told."""
        output = item.output
        destination = output.destination
        if item.is_ours:
            assert backend is not None
            return OurExport(output.type, output.attrs, backend, _place(item))
        if isinstance(destination, EngineDestination):
            delivery = Delivery(destination, self.sink)
            self._deliveries.append(delivery)
            return Export(output.type, output.attrs, file=delivery.output)
        if destination is None:
            return Export(output.type, output.attrs)
        if destination.is_directory:
            return Export(output.type, output.attrs, directory=Path(destination.path))
        return Export(output.type, output.attrs, file=destination.path)

    def response(self) -> dict[str, str]:
        """What to add to the build's response."""
        return {key: value for delivery in self._deliveries for key, value in delivery.response.items()}


def plan_outputs(
    texts: Sequence[str], tags: Sequence[str], registry: Registry, taken: frozenset[str]
) -> list[BuildOutput]:
    """Find out who makes the outputs of a build by buildkitd. May import plugins.

    Args:
        texts: Values of ``--output``.
        tags: Names for images that have none of their own.
        registry: What can run here.
        taken: Types that run here although the daemon has them.

    Raises:
        UsageError: an output cannot be made.
    """
    missing = sorted(taken - set(registry.types))
    if missing:
        raise UsageError(f"--take: there is no exporter here for {', '.join(missing)}")
    outputs = []
    for option in map(OutputOption.parse, texts):
        exporter_type = option.type.removeprefix(PLUGIN_PREFIX)
        is_ours = exporter_type != option.type or exporter_type in taken or exporter_type not in DAEMON_TYPES
        kind = _describe(registry, exporter_type)
        output = _place_output(replace(option, type=exporter_type), kind, tags)
        outputs.append(BuildOutput(output, is_ours, is_tree=kind.artifact is ArtifactKind.FILES))
    for item in outputs:
        if item.is_ours and isinstance(item.output.destination, EngineDestination):
            raise UsageError("load=true is for the daemon's own type=docker: leave --take or plugin. out")
    check_destinations([item.output for item in outputs])
    return outputs


def plan_engine_outputs(texts: Sequence[str], tags: Sequence[str], registry: Registry) -> list[BuildOutput]:
    """Find out what a Docker engine is to make; without any output that is an image in its own store.

    Raises:
        UsageError: an output cannot be made.
    """
    outputs = []
    for option in map(OutputOption.parse, texts or [f"type={MOBY_EXPORTER}"]):
        if option.type in _ENGINE_IMAGE_TYPES and "dest" not in option.attrs:
            attrs = {key: value for key, value in option.attrs.items() if key != "load"}
            if tags:
                attrs.setdefault(_NAME, ",".join(tags))
            outputs.append(Output(MOBY_EXPORTER, attrs, None))
        elif option.type in _ENGINE_FILE_TYPES:
            outputs.append(_place_output(option, _describe(registry, option.type), tags))
        else:
            raise UsageError(
                f"type={option.type} cannot be made with a Docker engine, only {MOBY_EXPORTER}, local and "
                "tar; with a buildkitd, all types can"
            )
    if len(outputs) > 1:
        raise UsageError("Docker engines make one output of a build")
    return [BuildOutput(output) for output in outputs]


def _describe(registry: Registry, exporter_type: str) -> ExporterDescription:
    try:
        return describe(registry.get(exporter_type))
    except NotFoundError as error:
        raise UsageError(str(error)) from error


def _place_output(option: OutputOption, kind: ExporterDescription, tags: Sequence[str]) -> Output:
    output = place_output(option, kind, stdout_is_terminal=sys.stdout.isatty())
    if tags and any(attribute.name == _NAME for attribute in kind.attributes):
        output = replace(output, attrs={_NAME: ",".join(tags), **output.attrs})
    return output


def _place(item: BuildOutput) -> str | ReceivedDirectory | None:
    destination = item.output.destination
    if not isinstance(destination, Destination):
        return None
    if item.is_tree:
        return ReceivedDirectory.of(Path(destination.path), item.output.attrs)
    return destination.path
