"""The outputs of a build: which ones the daemon exports, and which ones we do."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from exporter.cli.build.values import check_reference
from exporter.cli.descriptions import ExporterDescription, describe
from exporter.cli.export.delivery import OutputPlace, output_place
from exporter.cli.failures import UsageError
from exporter.cli.outputs import (
    Destination,
    EngineDestination,
    Output,
    OutputOption,
    check_destinations,
    place_output,
)
from exporter.client.dockerd_image import MOBY_EXPORTER
from exporter.client.options import Export, OurExport
from exporter.daemon.services.receive_directory import ReceivedDirectory
from exporter.errors import ImageError, NotFoundError
from exporter.exporters.attribute_help import BEFORE_PUBLISH
from exporter.exporters.base import ArtifactKind
from exporter.exporters.registry import Registry
from exporter.image.go.text import parse_bool
from exporter.image.names import FROM_FRONTEND
from exporter.progress.model import StatusSink
from exporter.takeover.backend import Backend
from exporter.takeover.plan import DAEMON_TYPES, PLUGIN_PREFIX

_NAME = "name"
_PUSH = "push"
_UNPACK = "unpack"
_LOAD = "load"
_CONTEXT = "context"
_ANNOTATIONS = "annotation*"

_IMAGE = "image"
_DOCKER = "docker"
_REGISTRY = "registry"
_CACHE_ONLY = "cacheonly"

_PUSH_BY_DIGEST = "push-by-digest"

_ENGINE_IMAGE_TYPES = frozenset({_DOCKER, _IMAGE, _REGISTRY, MOBY_EXPORTER})
_ENGINE_FILE_TYPES = frozenset({"local", "tar"})


@dataclass(frozen=True, slots=True)
class BuildOutput:
    """An output, and who exports it.

    Attributes:
        output: The output.
        is_ours: Whether it runs here.
        is_tree: Whether its directory receives a tree of files, not an OCI layout.
        pushes: Names under which the Docker engine should push the image after the build.
    """

    output: Output
    is_ours: bool = False
    is_tree: bool = False
    pushes: tuple[str, ...] = ()

    @property
    def makes_image(self) -> bool:
        """Whether it may create an image; the type of a plugin can be anything."""
        return not self.is_tree and self.output.type != "tar"


@dataclass(slots=True)
class Deliveries:
    """Outputs that are loaded into Docker engines, which extend the response.

    Attributes:
        sink: Receives the progress of loading.
    """

    sink: StatusSink
    _engines: list[OutputPlace] = field(default_factory=list)

    def export_of(self, item: BuildOutput, backend: Backend | None) -> Export | OurExport:
        """Convert an output for the client."""
        output = item.output
        destination = output.destination
        if item.is_ours:
            assert backend is not None
            return OurExport(output.type, output.attrs, backend, _place(item))
        if isinstance(destination, EngineDestination):
            place = output_place(destination, self.sink)
            self._engines.append(place)
            return Export(output.type, output.attrs, file=place.output)
        if destination is None:
            return Export(output.type, output.attrs)
        if destination.is_directory:
            return Export(output.type, output.attrs, directory=Path(destination.path))
        return Export(output.type, output.attrs, file=destination.path)

    def response(self) -> dict[str, str]:
        """The keys to add to the build's response."""
        return {key: value for place in self._engines for key, value in place.response.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """The user's flags about outputs.

    Attributes:
        texts: The values of ``--output``.
        tags: Names for images without a name of their own.
        push: Whether to push images.
        load: Whether to load the image into a Docker engine.
        annotations: Attributes for all outputs that support annotations.
    """

    texts: Sequence[str] = ()
    tags: Sequence[str] = ()
    push: bool = False
    load: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)

    def options(self) -> list[OutputOption]:
        """The parsed outputs, without ``cacheonly``.

        Raises:
            UsageError: an output is malformed.
        """
        options = [OutputOption.parse_short(text) for text in self.texts if text]
        return [option for option in options if option.type != _CACHE_ONLY]


def plan_outputs(wishes: Wishes, registry: Registry, taken: frozenset[str]) -> list[BuildOutput]:
    """Plan the outputs of a build with buildkitd. May import plugins.

    Args:
        wishes: The user's flags.
        registry: The types that can run here.
        taken: Types that run here although the daemon has them.

    Raises:
        UsageError: an output is not possible.
    """
    missing = sorted(taken - set(registry.types))
    if missing:
        raise UsageError(f"--take: there is no exporter here for {', '.join(missing)}")
    outputs = []
    options = wishes.options()
    if wishes.push:
        options = _pushed(options)
    if wishes.load:
        options = _loaded(options)
    for option in options:
        exporter_type = option.type.removeprefix(PLUGIN_PREFIX)
        # The daemon would publish without running a hook.
        is_ours = (
            exporter_type != option.type
            or exporter_type in taken
            or exporter_type not in DAEMON_TYPES
            or bool(option.attrs.get(BEFORE_PUBLISH))
        )
        kind = _describe(registry, exporter_type)
        output = _place_output(replace(option, type=exporter_type), kind, wishes)
        _check_names(output, is_pushed=exporter_type == _REGISTRY or _is_true(output.attrs.get(_PUSH, "")))
        outputs.append(BuildOutput(output, is_ours, is_tree=kind.artifact is ArtifactKind.FILES))
    for item in outputs:
        if item.is_ours and isinstance(item.output.destination, EngineDestination):
            if item.output.attrs.get(BEFORE_PUBLISH):
                raise UsageError(
                    f"load=true and {BEFORE_PUBLISH} cannot be combined: use push=true, or dest=FILE"
                )
            raise UsageError("load=true is for the daemon's own type=docker: leave --take or plugin. out")
    check_destinations([item.output for item in outputs])
    return outputs


def _pushed(options: Sequence[OutputOption]) -> list[OutputOption]:
    """Push images. Like buildx, add an image output if there is no output."""
    found = [
        replace(option, attrs={_UNPACK: "false", **option.attrs, _PUSH: "true"})
        if _is_type(option, _IMAGE)
        else option
        for option in options
    ]
    if not any(_is_type(option, _IMAGE) or _is_type(option, _REGISTRY) for option in found):
        found.append(OutputOption(_IMAGE, {_PUSH: "true", _UNPACK: "false"}))
    return found


def _loaded(options: Sequence[OutputOption]) -> list[OutputOption]:
    """Load the image. Like buildx, this applies to ``type=docker`` without ``dest``."""
    loadable = [option for option in options if option.type == _DOCKER and not option.attrs.get("dest")]
    if not loadable:
        return [*options, OutputOption(_DOCKER, {_LOAD: "true"})]
    return [
        replace(option, attrs={**option.attrs, _LOAD: "true"}) if option in loadable else option
        for option in options
    ]


def _is_type(option: OutputOption, name: str) -> bool:
    return option.type.removeprefix(PLUGIN_PREFIX) == name


def _is_true(text: str) -> bool:
    try:
        return parse_bool(text)
    except ImageError:
        return False  # the exporter will report the invalid value


def _check_names(output: Output, *, is_pushed: bool) -> None:
    """Reject invalid names before the build rather than after it."""
    names = output.attrs.get(_NAME, "")
    if is_pushed and not names:
        raise UsageError("tag is needed when pushing to registry: name the image with --tag")
    if names == FROM_FRONTEND:
        return
    for name in names.split(",") if names else ():
        check_reference(name, f"--output type={output.type}: failed to parse name {name!r}")


def plan_engine_outputs(
    wishes: Wishes, registry: Registry, *, exporter_pushes: bool = False
) -> list[BuildOutput]:
    """Plan the outputs of a build with a Docker engine. By default, this is an image in its own store.

    Args:
        wishes: The user's flags.
        registry: Describes the types.
        exporter_pushes: Whether the engine's exporter can push. Otherwise, the engine's API is used after
            the build.

    Raises:
        UsageError: an output is not possible.
    """
    outputs = []
    options = wishes.options()
    if not wishes.texts or wishes.load or wishes.push:
        is_image = any(_is_engine_image(option) for option in options)
        options += [] if is_image else [OutputOption(MOBY_EXPORTER, {})]
    for option in options:
        if option.attrs.get(BEFORE_PUBLISH):
            raise UsageError(
                f"{BEFORE_PUBLISH} needs a buildkitd: a Docker engine publishes its images itself"
            )
        if _is_engine_image(option):
            outputs.append(_engine_image(option, wishes, exporter_pushes=exporter_pushes))
        elif option.type in _ENGINE_FILE_TYPES:
            outputs.append(BuildOutput(_place_output(option, _describe(registry, option.type), wishes)))
        else:
            raise UsageError(
                f"type={option.type} cannot be made with a Docker engine, only {MOBY_EXPORTER}, local and "
                "tar; with a buildkitd, all types can"
            )
    if len(outputs) > 1:
        raise UsageError("a Docker engine makes only one output per build: run a build for each of them")
    return outputs


def _engine_image(option: OutputOption, wishes: Wishes, *, exporter_pushes: bool) -> BuildOutput:
    attrs = {key: value for key, value in option.attrs.items() if key not in {_LOAD, _CONTEXT}}
    if wishes.tags:
        attrs.setdefault(_NAME, ",".join(wishes.tags))
    is_pushed = wishes.push or option.type == _REGISTRY or _is_true(attrs.get(_PUSH, ""))
    attrs.pop(_PUSH, None)
    _check_names(Output(option.type, attrs, None), is_pushed=is_pushed)
    if is_pushed and _is_true(attrs.get(_PUSH_BY_DIGEST, "")):
        raise UsageError(f"{_PUSH_BY_DIGEST}: a Docker engine pushes names only; a buildkitd can do that")
    if is_pushed and exporter_pushes:
        attrs[_PUSH] = "true"
    pushes = tuple(attrs[_NAME].split(",")) if is_pushed and not exporter_pushes else ()
    return BuildOutput(Output(MOBY_EXPORTER, {**attrs, **wishes.annotations}, None), pushes=pushes)


def _is_engine_image(option: OutputOption) -> bool:
    return option.type in _ENGINE_IMAGE_TYPES and "dest" not in option.attrs


def _describe(registry: Registry, exporter_type: str) -> ExporterDescription:
    try:
        return describe(registry.get(exporter_type))
    except NotFoundError as error:
        raise UsageError(str(error)) from error


def _place_output(option: OutputOption, kind: ExporterDescription, wishes: Wishes) -> Output:
    output = place_output(option, kind, stdout_is_terminal=sys.stdout.isatty())
    known = {attribute.name for attribute in kind.attributes}
    if wishes.tags and _NAME in known:
        output = replace(output, attrs={_NAME: ",".join(wishes.tags), **output.attrs})
    if _ANNOTATIONS in known:
        output = replace(output, attrs={**output.attrs, **wishes.annotations})
    return output


def _place(item: BuildOutput) -> str | ReceivedDirectory | None:
    destination = item.output.destination
    if not isinstance(destination, Destination):
        return None
    if item.is_tree:
        return ReceivedDirectory.of(Path(destination.path), item.output.attrs)
    return destination.path
