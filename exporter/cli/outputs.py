"""``--output type=…,dest=…``: read as buildctl reads it, and where the artifact goes.

The messages of errors begin with buildctl's. Loading into a Docker engine needs a separate key:
without ``dest``, an archive goes to standard output, as with buildctl and unlike buildx.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.cli.csvvalue import split_fields
from exporter.cli.descriptions import ExporterDescription
from exporter.cli.destinations import problem_of_directory, problem_of_file
from exporter.cli.failures import UsageError
from exporter.errors import InvalidArgumentError
from exporter.exporters.base import ArtifactKind, Attribute
from exporter.exporters.output import STDOUT
from exporter.image import ImageError
from exporter.image.go.text import lower, parse_bool

if TYPE_CHECKING:
    from exporter.remotes.docker_engine import EngineAddress

_DEST = "dest"
_LOAD = "load"
_CONTEXT = "context"


@dataclass(frozen=True, slots=True)
class OutputOption:
    """An ``--output`` as the user wrote it: the type, and all other values by their lower-case keys."""

    type: str
    attrs: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> OutputOption:
        """Parse the value of an ``--output``.

        Raises:
            UsageError: the value is malformed, or has no type.
        """
        try:
            fields = split_fields(text)
        except InvalidArgumentError as error:
            raise UsageError(f"invalid value for --output: {error} in {text!r}") from None
        attrs: dict[str, str] = {}
        for field in fields:
            key, equals, value = field.partition("=")
            if not equals:
                raise UsageError(
                    f"invalid value {field!r} in --output {text}: "
                    "write KEY=VALUE, as in type=oci,dest=app.tar"
                )
            attrs[lower(key.strip())] = value  # buildx strips spaces as well
        exporter_type = attrs.pop("type", "")
        if not exporter_type:
            raise UsageError(
                f"--output requires type=<type>: there is none in {text!r}; "
                "'buildkit-exporter exporters' lists the types"
            )
        if "output" in attrs:
            value = attrs["output"]
            raise UsageError(f"output={value} not supported for --output, you meant dest={value}?")
        return cls(exporter_type, attrs)

    @classmethod
    def parse_short(cls, text: str) -> OutputOption:
        """Like `parse`, with buildx's shorthands: a directory, or ``-`` for a tarball on standard output.

        Raises:
            UsageError: see `parse`.
        """
        if text == STDOUT:
            return cls("tar", {_DEST: STDOUT})
        key, equals, _ = text.partition("=")
        if text and (not equals or "/" in key) and "," not in text:
            return cls("local", {_DEST: text})
        return cls.parse(text)


@dataclass(frozen=True, slots=True)
class Destination:
    """A file, a directory or standard output.

    Attributes:
        path: A path, or `STDOUT`.
        is_directory: Whether it is a directory, not a file.
    """

    path: str
    is_directory: bool

    @property
    def is_stdout(self) -> bool:
        """Whether it is standard output."""
        return self.path == STDOUT and not self.is_directory


@dataclass(frozen=True, slots=True)
class EngineDestination:
    """A Docker engine that loads the artifact, at this address."""

    address: EngineAddress


@dataclass(frozen=True, slots=True)
class Output:
    """A validated output: the exporter's attributes, and where the artifact goes."""

    type: str
    attrs: Mapping[str, str]
    destination: Destination | EngineDestination | None


def client_keys(kind: ExporterDescription) -> tuple[Attribute, ...]:
    """The keys that say where an artifact goes. The client handles them; the exporter never sees them."""
    if kind.artifact is ArtifactKind.FILES:
        return (Attribute(_DEST, "string", "", "Directory that the files go to."),)
    if kind.artifact is not ArtifactKind.ARCHIVE:
        return ()
    directory = "; with tar=false, the directory" if kind.has_directory_form else ""
    file = Attribute(_DEST, "string", "-", f"The file{directory}. - is standard output.")
    load = Attribute(
        _LOAD,
        "bool",
        "false",
        "Load the image into a Docker engine instead of writing a file. For type oci, this needs Docker "
        "25 or later.",
    )
    context = Attribute(
        _CONTEXT,
        "string",
        "",
        "Docker context of that engine; by default, the engine is the one that docker itself would use.",
    )
    return (file, load, context) if _takes_load(kind) else (file,)


def place_output(option: OutputOption, kind: ExporterDescription, *, stdout_is_terminal: bool) -> Output:
    """Determine where an output goes, and remove the client's keys from its attributes: see `client_keys`.

    Args:
        option: The output as the user wrote it.
        kind: The description of its type.
        stdout_is_terminal: Whether standard output is a terminal, which must not receive an archive.

    Raises:
        UsageError: the destination is missing, not supported by the type, or not usable.
        NotFoundError, InvalidArgumentError: see `find_engine`.
    """
    kind = kind.used_with(option.attrs)
    keys = {_DEST, *(key.name for key in client_keys(kind))}
    attrs = {key: value for key, value in option.attrs.items() if key not in keys}
    dest = option.attrs.get(_DEST, "")
    if _wants_load(option, kind):
        return Output(option.type, attrs, _engine(option, kind))
    match _form(option, kind):
        case ArtifactKind.FILES:
            is_layout = kind.artifact is not ArtifactKind.FILES
            return Output(option.type, attrs, _directory(dest, kind.type, is_layout=is_layout))
        case ArtifactKind.ARCHIVE:
            return Output(option.type, attrs, _file(dest, kind.type, stdout_is_terminal=stdout_is_terminal))
    if dest:
        raise _bad_destination(f"output {dest} is not supported by {kind.type} exporter: leave dest out")
    return Output(option.type, attrs, None)


@contextmanager
def attributes_of(output: Output) -> Iterator[None]:
    """Name the output in errors about its attributes. Nothing has been done yet.

    Raises:
        UsageError: instead of an error about an attribute.
    """
    try:
        yield
    except InvalidArgumentError as error:
        raise UsageError(f"--output type={output.type}: {error.message}", field=error.field) from error
    except ImageError as error:
        raise UsageError(f"--output type={output.type}: {error}", field=error.field) from error


def check_destinations(outputs: Sequence[Output]) -> None:
    """Reject outputs that would overwrite each other.

    Raises:
        UsageError: two outputs have the same destination.
    """
    seen: set[str] = set()
    for output in outputs:
        if not isinstance(output.destination, Destination):
            continue
        place = STDOUT if output.destination.is_stdout else str(Path(output.destination.path).resolve())
        if place in seen:
            name = "standard output" if place == STDOUT else output.destination.path
            raise UsageError(f"two outputs go to {name}: give each of them a dest of its own")
        seen.add(place)


def _form(option: OutputOption, kind: ExporterDescription) -> ArtifactKind:
    if kind.artifact is not ArtifactKind.ARCHIVE or not kind.has_directory_form:
        return kind.artifact
    try:
        wants_archive = parse_bool(option.attrs.get("tar", ""))
    except ImageError:
        wants_archive = True  # like buildctl; the exporter itself rejects a value that is not a boolean
    return ArtifactKind.ARCHIVE if wants_archive else ArtifactKind.FILES


def _takes_load(kind: ExporterDescription) -> bool:
    """Whether its archives can be loaded: those of images, unless the exporter itself has one of the keys."""
    known = {attribute.name for attribute in kind.attributes}
    is_image = kind.artifact is ArtifactKind.ARCHIVE and kind.has_directory_form
    return is_image and not known & {_LOAD, _CONTEXT}


def _wants_load(option: OutputOption, kind: ExporterDescription) -> bool:
    if any(attribute.name == _LOAD for attribute in kind.attributes):
        return False
    value = option.attrs.get(_LOAD, "false")
    try:
        wanted = value == "" or parse_bool(value)
    except ImageError as error:
        raise UsageError(f"non-bool value specified for {_LOAD}: {error}") from None
    if _takes_load(kind) and not wanted and _CONTEXT in option.attrs:
        raise UsageError(f"{_CONTEXT} says which Docker engine loads the image: add {_LOAD}=true")
    return wanted


def _engine(option: OutputOption, kind: ExporterDescription) -> EngineDestination:
    if not _takes_load(kind):
        raise _bad_destination(
            f"{_LOAD}=true is not supported by {kind.type} exporter: "
            "type=docker makes what a Docker engine loads"
        )
    if _form(option, kind) is not ArtifactKind.ARCHIVE:
        raise _bad_destination(
            f"a Docker engine loads an archive, not a directory: leave tar=false or {_LOAD} out"
        )
    if dest := option.attrs.get(_DEST):
        raise _bad_destination(
            f"{_LOAD}=true sends the image to a Docker engine and not to {dest}: leave one of them out, "
            "or make two outputs of it"
        )
    from exporter.remotes.docker_engine import find_engine  # imported late, because it takes a moment

    return EngineDestination(find_engine(option.attrs.get(_CONTEXT), environ=os.environ))


def _directory(dest: str, name: str, *, is_layout: bool) -> Destination:
    if not dest:
        raise _bad_destination(f"output directory is required for {name} exporter: add dest=DIRECTORY")
    mode = _mode_of(dest, "directory")
    if mode is not None and not stat.S_ISDIR(mode):
        raise _bad_destination(f"destination directory is a file: {dest}")
    if problem := problem_of_directory(Path(dest), is_layout=is_layout):
        raise _bad_destination(f"{dest} cannot be written: {problem}")
    return Destination(dest, is_directory=True)


def _file(dest: str, name: str, *, stdout_is_terminal: bool) -> Destination:
    if not dest or dest == STDOUT:
        if stdout_is_terminal:
            raise _bad_destination(
                f"output file is required for {name} exporter. refusing to write to console: "
                "add dest=FILE, or redirect standard output"
            )
        return Destination(STDOUT, is_directory=False)
    mode = _mode_of(dest, "file")
    if mode is not None and stat.S_ISDIR(mode):
        raise _bad_destination(f"destination file is a directory: {dest}")
    if mode is None and not Path(dest).resolve().parent.is_dir():
        raise _bad_destination(f"the directory of the destination file does not exist: {dest}")
    if problem := problem_of_file(Path(dest)):
        raise _bad_destination(f"{dest} cannot be written: {problem}")
    return Destination(dest, is_directory=False)


def _mode_of(dest: str, what: str) -> int | None:
    try:
        return Path(dest).stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _bad_destination(f"invalid destination {what}: {dest}: {error.strerror or error}") from error


def _bad_destination(problem: str) -> UsageError:
    return UsageError(f"invalid output option: output: {problem}")
