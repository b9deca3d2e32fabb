"""Tables on standard output."""

from __future__ import annotations

import sys

from rich.console import Console, RenderableType

from exporter.image import Time

UNKNOWN = "-"
"""The placeholder for unknown values."""

_SHORT_DIGEST = 12
_UNLIMITED = 10_000  # columns: output that is not on a terminal must not be wrapped


def output_width() -> int:
    """The width of standard output; practically unlimited if it is not a terminal."""
    return _console().width if sys.stdout.isatty() else _UNLIMITED


def print_tables(*parts: RenderableType, least: int = 0) -> None:
    """Print to standard output.

    Tables fit the terminal; elsewhere they are as wide as their content.

    Args:
        parts: The things to print.
        least: The minimum width in columns. On a narrower terminal, lines wrap at its edge.
    """
    if sys.stdout.isatty():
        _console(max(output_width(), least)).print(*parts, sep="\n")
        return
    console = _console(_UNLIMITED)
    with console.capture() as capture:
        console.print(*parts, sep="\n")
    for line in capture.get().splitlines():
        print(line.rstrip())


def show_digest(digest: str, *, truncate: bool) -> str:
    """Format a digest for a table; an empty one is unknown."""
    if not digest:
        return UNKNOWN
    return digest.partition(":")[2][:_SHORT_DIGEST] if truncate else digest


def show_moment(moment: Time | None, *, truncate: bool) -> str:
    """Format a time for a table, in UTC. If truncated, it has a precision of one second."""
    if moment is None:
        return UNKNOWN
    if not truncate:
        return str(moment)
    return str(Time.from_unix(moment.unix)).removesuffix("Z").replace("T", " ")


def _console(width: int | None = None) -> Console:
    return Console(highlight=False, markup=False, emoji=False, width=width)
