"""Types that other distributions bring along: whose they are, and what is said when one of them fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from exporter.errors import Code, ExporterError
from exporter.exporters.base import Exporter
from exporter.image.go import text as gotext

__all__ = ["Origin", "PluginError", "blaming", "note_origin", "origin_of"]


class PluginError(ExporterError):
    """An exporter of another distribution raised an unexpected exception: a bug of that distribution."""

    code = Code.INTERNAL


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a type comes from.

    Attributes:
        distribution: Name and version; empty if nobody knows.
        warnings: What its users should know, such as that somebody else offers the type, too.
    """

    distribution: str = ""
    warnings: tuple[str, ...] = ()


_ORIGINS: WeakKeyDictionary[type[Exporter], Origin] = WeakKeyDictionary()
_OURS = __name__.partition(".")[0]


def note_origin(kind: type[Exporter], origin: Origin) -> None:
    """Remember where a class comes from; the registry does so when it loads one."""
    _ORIGINS[kind] = origin


def origin_of(kind: type[Exporter]) -> Origin | None:
    """Where a class comes from; None for those that are built in."""
    if kind not in _ORIGINS and kind.__module__.partition(".")[0] == _OURS:
        return None
    return _ORIGINS.get(kind, Origin())


@contextmanager
def blaming(kind: type[Exporter]) -> Iterator[None]:
    """Around the code of an exporter: what escapes from a plugin's is the plugin's fault, and is said to be.

    Errors that explain themselves pass: those of ours, and those of the operating system. An attempt to end
    the process (`SystemExit`) ends the export.

    Raises:
        PluginError: in place of all others.
    """
    origin = origin_of(kind)
    try:
        yield
    except (ExporterError, OSError):
        raise
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        # Signals do not end up here: those who run exports handle them.
        if origin is None:
            raise
        of = f" of {origin.distribution}" if origin.distribution else ""
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise PluginError(f"the exporter {gotext.quote(kind.type)}{of} has failed: {text}") from error
