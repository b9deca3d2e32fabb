"""Tables on standard output."""

from __future__ import annotations

import sys

from rich.console import Console, RenderableType

_UNLIMITED = 10_000  # columns: who reads what is not on a terminal has no use for broken lines


def print_tables(*parts: RenderableType) -> None:
    """Print on standard output.

    On a terminal tables are fitted to it, elsewhere they are as wide as it takes.
    """
    if sys.stdout.isatty():
        Console(highlight=False, markup=False, emoji=False).print(*parts, sep="\n")
        return
    console = Console(highlight=False, markup=False, emoji=False, width=_UNLIMITED)
    with console.capture() as capture:
        console.print(*parts, sep="\n")
    for line in capture.get().splitlines():
        print(line.rstrip())
