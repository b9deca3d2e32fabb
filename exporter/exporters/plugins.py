"""Exporters from other distributions: their origin, and the handling of their failures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from exporter.errors import Code, ExporterError
from exporter.exporters.base import Exporter
from exporter.exporters.single_file import line_in
from exporter.image.go import text as gotext

__all__ = ["Origin", "PluginError", "blaming", "note_origin", "origin_of"]


class PluginError(ExporterError):
    """An exporter of another distribution raised an unexpected exception: a bug of that distribution."""

    code = Code.INTERNAL


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of a type.

    Attributes:
        distribution: Name and version of the distribution, or the path of a single file; empty if unknown.
        warnings: Warnings for its users, such as that another distribution has an exporter of the same type.
    """

    distribution: str = ""
    warnings: tuple[str, ...] = ()


_ORIGINS: WeakKeyDictionary[type[Exporter], Origin] = WeakKeyDictionary()
_OURS = __name__.partition(".")[0]


def note_origin(kind: type[Exporter], origin: Origin) -> None:
    """Record the origin of a class. The registry calls this when it loads one."""
    _ORIGINS[kind] = origin


def origin_of(kind: type[Exporter]) -> Origin | None:
    """The origin of a class; None if it is built in."""
    if kind not in _ORIGINS and kind.__module__.partition(".")[0] == _OURS:
        return None
    return _ORIGINS.get(kind, Origin())


@contextmanager
def blaming(kind: type[Exporter]) -> Iterator[None]:
    """Wrap calls of an exporter, and attribute unexpected exceptions to its distribution.

    `ExporterError` and operating system errors propagate, because they explain themselves. `SystemExit` only
    ends the export, not the process.

    Raises:
        PluginError: instead of any other exception of a plugin.
    """
    origin = origin_of(kind)
    try:
        yield
    except (ExporterError, OSError):
        raise
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        # A KeyboardInterrupt is not from a signal here: the callers handle signals themselves.
        if origin is None:
            raise
        of = f" of {origin.distribution}" if origin.distribution else ""
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        line = line_in(origin.distribution, error)
        if line is not None:
            text += f" (line {line})"
        raise PluginError(f"the exporter {gotext.quote(kind.type)}{of} has failed: {text}") from error
