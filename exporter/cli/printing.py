"""Tables on standard output."""

from __future__ import annotations

import sys

from rich.console import Console, RenderableType

from exporter.image import Time

UNKNOWN = "-"
"""What tables have in place of what nobody knows."""

_SHORT_DIGEST = 12
_UNLIMITED = 10_000  # columns: who reads what is not on a terminal has no use for broken lines


def output_width() -> int:
    """Columns that standard output has; a great many if it is no terminal."""
    return _console().width if sys.stdout.isatty() else _UNLIMITED


def print_tables(*parts: RenderableType, least: int = 0) -> None:
    """Print on standard output.

    On a terminal tables are fitted to it, elsewhere they are as wide as it takes.

    Args:
        parts: What to print.
        least: Columns that it takes at least. On a terminal that has fewer, lines run over its edge.
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
    """A digest as tables have it; an empty one is not known."""
    if not digest:
        return UNKNOWN
    return digest.partition(":")[2][:_SHORT_DIGEST] if truncate else digest


def show_moment(moment: Time | None, *, truncate: bool) -> str:
    """A time as tables have it: in UTC, down to the second if it may be shortened."""
    if moment is None:
        return UNKNOWN
    if not truncate:
        return str(moment)
    return str(Time.from_unix(moment.unix)).removesuffix("Z").replace("T", " ")


def _console(width: int | None = None) -> Console:
    return Console(highlight=False, markup=False, emoji=False, width=width)
