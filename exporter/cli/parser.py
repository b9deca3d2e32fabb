"""The command line: the commands and their flags, spelled as buildctl and buildkitd spell theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from exporter.cli.commands.base import PROGRAM, Invocation, Program
from exporter.cli.commands.summaries import SUMMARIES


def _print_version(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value and not ctx.resilient_parsing:
        from importlib import metadata

        click.echo(f"{PROGRAM} {metadata.version(PROGRAM)}")
        ctx.exit()


ROOT = Program(
    summary="Exporters for BuildKit, outside the daemon.",
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="show the version and exit",
        )
    ],
)
"""The whole command line."""


def parse(words: Sequence[str]) -> Invocation:
    """Parse a command line.

    Args:
        words: The arguments after the program's name.

    Raises:
        click.UsageError: the command line is invalid.
        click.exceptions.Exit: help or the version was requested, and has been printed.
    """
    with ROOT.make_context(PROGRAM, list(words)) as ctx:
        invocation = ROOT.invoke(ctx)
        if not isinstance(invocation, Invocation):
            raise click.UsageError(f"a command is required: {', '.join(SUMMARIES)}", ctx)
        return invocation
