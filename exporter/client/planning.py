"""Planning the outputs of a build: who makes each of them, and where it goes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from exporter.client.options import Export, OurExport
from exporter.client.outputs import (
    AnyOutput,
    DirectoryOutput,
    DockerOutput,
    ExporterOutput,
    FileObjectOutput,
    FilePlace,
    ImageOutput,
    NamedOutput,
    OCIOutput,
    TarOutput,
)
from exporter.content.threads import run_in_thread
from exporter.daemon.services.receive_directory import ReceivedDirectory
from exporter.errors import InvalidArgumentError
from exporter.exporters.base import ArtifactKind, Exporter
from exporter.exporters.destinations import Output
from exporter.progress.model import StatusSink
from exporter.remotes.docker_engine import EngineAddress, find_engine
from exporter.takeover.plan import DAEMON_TYPES, PLUGIN_PREFIX

if TYPE_CHECKING:
    from exporter.exporters.docker_engine import DockerEngineOutput
    from exporter.takeover.local import LocalBackend

MOBY = "moby"
"""The type of a Docker engine's own exporter."""

_REGISTRY = "registry"


@dataclass(frozen=True, slots=True)
class PlannedOutput:
    """An output of a build.

    Attributes:
        output: The output.
        export: What the client is asked for.
        engine: The Docker engine that loads it, if any.
        pushes: The names under which the Docker engine that builds pushes it after the build.
    """

    output: AnyOutput
    export: Export | OurExport
    engine: DockerEngineOutput | None = None
    pushes: tuple[str, ...] = ()


def outputs_of(
    outputs: Sequence[AnyOutput | Exporter] | AnyOutput | Exporter | None,
    tags: Sequence[str],
    *,
    for_engine: bool,
) -> list[AnyOutput]:
    """The outputs that a caller wants.

    Args:
        outputs: The outputs as given; None for the default, an image if it has a name or a Docker engine
            builds it.
        tags: The names of images.
        for_engine: Whether a Docker engine builds.
    """
    if outputs is None:
        return [ImageOutput()] if tags or for_engine else []
    given = outputs if isinstance(outputs, Sequence) else [outputs]
    return [ExporterOutput(output) if isinstance(output, Exporter) else output for output in given]


def runs_here(output: AnyOutput) -> bool:
    """Whether an output runs in this process."""
    return isinstance(output, ExporterOutput) or (
        isinstance(output, NamedOutput) and output.type not in {*DAEMON_TYPES, _REGISTRY, MOBY}
    )


async def plan_output(
    output: AnyOutput, tags: Sequence[str], backend: LocalBackend | None, sink: StatusSink
) -> PlannedOutput:
    """Plan an output of a build with buildkitd.

    Args:
        output: The output.
        tags: The names of images without names of their own.
        backend: Runs exporters in this process; None if none of the outputs `runs_here`.
        sink: Receives the progress of loading into a Docker engine.

    Raises:
        InvalidArgumentError, NotFoundError: the output is not possible.
    """
    if runs_here(output):
        assert backend is not None
        return PlannedOutput(output, await _ours(output, tags, backend))
    attrs = output.attributes(tags)
    match output:
        case ImageOutput():
            _need_name(output, attrs)
            return PlannedOutput(output, Export(output.type, attrs))
        case OCIOutput():
            if (output.dest is None) == (output.layout is None):
                raise InvalidArgumentError("OCIOutput: give either dest or layout")
            if output.layout is not None:
                return PlannedOutput(output, Export(output.type, attrs, directory=Path(output.layout)))
            return PlannedOutput(output, Export(output.type, attrs, file=_file(output.dest)))
        case DockerOutput(dest=None):
            return await _loaded(output, attrs, sink)
        case DirectoryOutput():
            return PlannedOutput(output, Export(output.type, attrs, directory=Path(output.dest)))
        case NamedOutput(dest=None):
            return PlannedOutput(output, Export(output.type, attrs))
        case NamedOutput(dest=dest) if dest is not None and (output.type == "local" or _is_layout(attrs)):
            return PlannedOutput(output, Export(output.type, attrs, directory=Path(_path(dest, output.type))))
        case DockerOutput() | TarOutput() | NamedOutput():
            return PlannedOutput(output, Export(output.type, attrs, file=_file(output.dest)))
    raise InvalidArgumentError(f"{output!r} is not an output")


def plan_engine_output(output: AnyOutput, tags: Sequence[str], *, exporter_pushes: bool) -> PlannedOutput:
    """Plan an output of a build with a Docker engine, which has the types ``moby``, ``local`` and ``tar``.

    Args:
        output: The output.
        tags: The names of images without names of their own.
        exporter_pushes: Whether the engine's exporter can push, which it can if images are in containerd.

    Raises:
        InvalidArgumentError: the engine cannot make it.
    """
    attrs = output.attributes(tags)
    match output:
        case ImageOutput():
            _need_name(output, attrs)
            if not output.push or exporter_pushes:
                return PlannedOutput(output, Export(MOBY, attrs))
            if output.push_by_digest:
                raise InvalidArgumentError("push_by_digest: this Docker engine pushes names only")
            del attrs["push"]
            return PlannedOutput(output, Export(MOBY, attrs), pushes=tuple(attrs["name"].split(",")))
        case DockerOutput(dest=None, context=""):
            return PlannedOutput(output, Export(MOBY, attrs))
        case DirectoryOutput():
            return PlannedOutput(output, Export(output.type, attrs, directory=Path(output.dest)))
        case TarOutput():
            return PlannedOutput(output, Export(output.type, attrs, file=_file(output.dest)))
        case NamedOutput() if output.type == MOBY:
            return PlannedOutput(output, Export(MOBY, attrs))
    raise InvalidArgumentError(
        f"{type(output).__name__} of type {output.type} cannot be made with a Docker engine, only "
        "ImageOutput, DirectoryOutput and TarOutput; with a buildkitd, all can"
    )


async def _ours(output: AnyOutput, tags: Sequence[str], backend: LocalBackend) -> OurExport:
    attrs = output.attributes(tags)
    if isinstance(output, ExporterOutput):
        kind, artifact = output.type, output.exporter.creates
        backend = backend.running(output.exporter)
    else:
        kind = output.type.removeprefix(PLUGIN_PREFIX)
        # May import a plugin; also reports unknown types and invalid attributes.
        resolved = await backend.resolve(0, kind, attrs)
        artifact = resolved.artifact or ArtifactKind.NONE
    dest = getattr(output, "dest", None)
    if dest is None:
        if artifact in {ArtifactKind.ARCHIVE, ArtifactKind.FILES}:
            what = "a file" if artifact is ArtifactKind.ARCHIVE else "files"
            raise InvalidArgumentError(f"output type={kind} makes {what}: give it a dest")
        return OurExport(kind, attrs, backend)
    if artifact not in {ArtifactKind.ARCHIVE, ArtifactKind.FILES}:
        raise InvalidArgumentError(f"output type={kind} makes no files: leave dest out")
    path = _path(dest, kind)
    if artifact is ArtifactKind.FILES and not _is_layout(attrs):
        return OurExport(kind, attrs, backend, ReceivedDirectory.of(Path(path), attrs))
    return OurExport(kind, attrs, backend, path)


async def _loaded(output: DockerOutput, attrs: dict[str, str], sink: StatusSink) -> PlannedOutput:
    from exporter.exporters.docker_engine import DockerEngineOutput
    from exporter.remotes.docker_engine.engine import DockerEngine

    address: EngineAddress = await run_in_thread(find_engine, output.context or None, environ=os.environ)
    async with DockerEngine(address):  # fail before the build, not after it
        pass
    engine = DockerEngineOutput(address, sink=sink)
    return PlannedOutput(output, Export(output.type, attrs, file=engine), engine)


def _need_name(output: ImageOutput, attrs: dict[str, str]) -> None:
    if output.push and not attrs.get("name"):
        raise InvalidArgumentError("ImageOutput(push=True) needs a name: give names or the build's tags")


def _is_layout(attrs: dict[str, str]) -> bool:
    return attrs.get("tar", "").lower() in {"false", "0", "f"}


def _file(dest: FilePlace | None) -> str | Output:
    if dest is None:
        raise InvalidArgumentError("the output makes a file: give it a dest")
    return os.fspath(dest) if isinstance(dest, str | os.PathLike) else FileObjectOutput(dest)


def _path(dest: FilePlace | IO[bytes], kind: str) -> str:
    if not isinstance(dest, str | os.PathLike):
        raise InvalidArgumentError(f"output type={kind} needs a path as its dest, not a file object")
    return os.fspath(dest)
