"""The registry of exporters: the built-in ones, and those of installed distributions.

A distribution adds an exporter with an entry point in the group ``buildkit_exporter.exporters``, named after
the type::

    [project.entry-points."buildkit_exporter.exporters"]
    sbom-report = "my_package.report:ReportExporter"
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.exporters.attended import printing_to_log
from exporter.exporters.attribute_check import check_values
from exporter.exporters.base import Exporter
from exporter.exporters.plugins import Origin, blaming, note_origin, origin_of
from exporter.exporters.single_file import load_exporters
from exporter.image.go import text as gotext
from exporter.lazy import named

__all__ = ["ENTRY_POINT_GROUP", "Registry", "default_registry"]

ENTRY_POINT_GROUP = "buildkit_exporter.exporters"

_BUILT_IN = {
    "delta": "exporter.exporters.delta:DeltaExporter",
    "docker": "exporter.exporters.oci:DockerExporter",
    "image": "exporter.exporters.image:ImageExporter",
    "local": "exporter.exporters.local:LocalExporter",
    "moby": "exporter.exporters.moby:MobyExporter",
    "oci": "exporter.exporters.oci:OCIExporter",
    "registry": "exporter.exporters.image:RegistryExporter",
    "report": "exporter.exporters.report.exporter:ReportExporter",
    "rootfs": "exporter.exporters.rootfs:RootfsExporter",
    "squash": "exporter.exporters.squash:SquashExporter",
    "tar": "exporter.exporters.tar:TarExporter",
}


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A type whose class is loaded on demand.

    Importing a plugin can be slow or fail, which must not affect users of other types.
    """

    type: str
    origin: str
    load: Callable[[], object]
    distribution: str | None = None
    """Name and version; empty if unknown, None if built in."""


class Registry:
    """Exporter classes by type.

    Args:
        entry_points: The environment's entry points; a parameter so that tests need no distributions.
        files: Python files with exporters, which are run now.

    Raises:
        InvalidArgumentError: a file cannot be run, or defines a type that exists.
        NotFoundError: a file does not exist.
    """

    def __init__(
        self, entry_points: Iterable[metadata.EntryPoint] = (), *, files: Iterable[Path] = ()
    ) -> None:
        self._candidates: dict[str, _Candidate] = {}
        self._warnings: dict[str, str] = {}
        for exporter_type, path in _BUILT_IN.items():
            self._candidates[exporter_type] = _Candidate(exporter_type, "built in", partial(named, path))
        for entry_point in sorted(entry_points, key=lambda e: (e.name, e.value)):
            self._offer(entry_point)
        for file in files:
            self._add_file(file)

    @property
    def types(self) -> tuple[str, ...]:
        """All types, sorted, including those whose plugin does not load."""
        return tuple(sorted(self._candidates))

    @property
    def warnings(self) -> tuple[str, ...]:
        """The problems with plugins that are known so far."""
        return tuple(self._warnings[key] for key in sorted(self._warnings))

    def get(self, exporter_type: str) -> type[Exporter]:
        """The class for a type.

        Raises:
            NotFoundError: there is no such type, or its plugin does not load; begins with BuildKit's text.
        """
        problem = f"exporter {gotext.quote(exporter_type)} could not be found"
        candidate = self._candidates.get(exporter_type)
        if candidate is None:
            raise NotFoundError(f"{problem}{self._hint(exporter_type)}", field="type")
        found = self._load(candidate)
        if found is None:
            raise NotFoundError(f"{problem}: {self._warnings[exporter_type]}", field="type")
        return found

    def make(self, exporter_type: str, attrs: Mapping[str, str]) -> Exporter:
        """Resolve a type with attributes. May import a plugin.

        Raises:
            ImageError, InvalidArgumentError: the value of an attribute is invalid.
            NotFoundError: see `get`.
            PluginError: the plugin fails.
        """
        kind = self.get(exporter_type)
        if origin_of(kind) is None:
            return kind(attrs)
        with blaming(kind), printing_to_log(f"the exporter {gotext.quote(exporter_type)}"):
            parsed = {item.name for item in kind.option_spec.fields} if kind.option_spec else set()
            check_values([item for item in kind.attributes if item.name not in parsed], attrs)
            exporter = kind(attrs)
            # If these properties are broken, fail before the build instead of after it.
            if not isinstance(exporter.name, str):
                raise TypeError(f"name is {exporter.name!r}, not a string")
            _ = exporter.compression, exporter.creates, exporter.needs_store
            return exporter

    def all(self) -> tuple[type[Exporter], ...]:
        """All classes that load, sorted by type. Afterwards, `warnings` tells which do not load, and why."""
        loaded = (self._load(self._candidates[exporter_type]) for exporter_type in self.types)
        return tuple(found for found in loaded if found is not None)

    def _offer(self, entry_point: metadata.EntryPoint) -> None:
        origin, distribution = f"plugin {entry_point.value}", ""
        if entry_point.dist is not None:
            distribution = f"{entry_point.dist.name} {entry_point.dist.version}"
            origin += f" of {distribution}"
        taken = self._candidates.get(entry_point.name)
        if taken is not None:
            self._warnings[f"{entry_point.name}: {entry_point.value}"] = (
                f'{origin} defines type "{entry_point.name}", which is taken ({taken.origin}); it is ignored'
            )
            return
        candidate = _Candidate(entry_point.name, origin, entry_point.load, distribution)
        self._candidates[entry_point.name] = candidate

    def _add_file(self, path: Path) -> None:
        """Unlike a distribution, a file was named by the user: what is wrong with it is an error."""
        with printing_to_log(f"file {path}"):
            kinds = load_exporters(path)
        for kind in kinds:
            taken = self._candidates.get(kind.type)
            if taken is not None and taken.load() is kind:  # the file was given twice
                continue
            if taken is not None:
                raise InvalidArgumentError(
                    f'{path}: class {kind.__name__} defines type "{kind.type}", which exists already '
                    f"({taken.origin}): choose another type"
                )
            self._candidates[kind.type] = _Candidate(kind.type, f"file {path}", _returning(kind), str(path))

    def _load(self, candidate: _Candidate) -> type[Exporter] | None:
        try:
            with printing_to_log(candidate.origin):
                found = candidate.load()
        except BaseException as error:  # importing foreign code can raise anything
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise  # the user pressed Ctrl-C
            self._warnings[candidate.type] = (
                f"{candidate.origin} does not load: {type(error).__name__}: {error}"
            )
            return None
        if not (isinstance(found, type) and issubclass(found, Exporter)):
            self._warnings[candidate.type] = f"{candidate.origin} is not a subclass of exporter.Exporter"
            return None
        if getattr(found, "type", None) != candidate.type:
            self._warnings[candidate.type] = (
                f'{candidate.origin} says that its type is "{getattr(found, "type", "")}", '
                f'but its entry point is named "{candidate.type}"'
            )
            return None
        if candidate.distribution is not None:
            others = tuple(
                text for key, text in self._warnings.items() if key.startswith(f"{candidate.type}: ")
            )
            note_origin(found, Origin(candidate.distribution, others))
        return found

    def _hint(self, exporter_type: str) -> str:
        close = difflib.get_close_matches(exporter_type, self.types)
        if close:
            return f" (did you mean {' or '.join(map(gotext.quote, close))}?)"
        return f" (available: {', '.join(self.types)})"


def default_registry(files: Iterable[Path] = ()) -> Registry:
    """The registry with the built-in types, those of installed distributions, and those in these files.

    Raises:
        InvalidArgumentError, NotFoundError: see `Registry`.
    """
    return Registry(metadata.entry_points(group=ENTRY_POINT_GROUP), files=files)


def _returning(kind: type[Exporter]) -> Callable[[], object]:
    return lambda: kind
