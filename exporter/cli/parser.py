"""The command line: the commands and their flags, spelled as buildctl and buildkitd spell theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from exporter.cli.commands.base import PROGRAM, Invocation, Program
from exporter.cli.commands.build import BUILD
from exporter.cli.commands.completion import COMPLETION
from exporter.cli.commands.export import EXPORT
from exporter.cli.commands.exporters import EXPORTERS
from exporter.cli.commands.images import IMAGES
from exporter.cli.commands.inspect import INSPECT
from exporter.cli.commands.proxy import PROXY
from exporter.cli.commands.prune import PRUNE
from exporter.cli.commands.sample import SAMPLE
from exporter.cli.commands.serve import SERVE
from exporter.cli.commands.verify import VERIFY
from exporter.cli.commands.wait import WAIT


def _print_version(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value and not ctx.resilient_parsing:
        from importlib import metadata

        click.echo(f"{PROGRAM} {metadata.version(PROGRAM)}")
        ctx.exit()


ROOT = Program(
    [SERVE, PROXY, BUILD, EXPORT, SAMPLE, WAIT, EXPORTERS, IMAGES, INSPECT, VERIFY, PRUNE, COMPLETION],
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
    """Understand a command line.

    Args:
        words: What follows the program's name.

    Raises:
        click.UsageError: it cannot be understood.
        click.exceptions.Exit: it asks for help or the version, which has been printed.
    """
    with ROOT.make_context(PROGRAM, list(words)) as ctx:
        invocation = ROOT.invoke(ctx)
        if not isinstance(invocation, Invocation):
            raise click.UsageError(f"a command is required: {', '.join(ROOT.commands)}", ctx)
        return invocation
