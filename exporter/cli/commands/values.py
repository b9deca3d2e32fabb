"""Values of flags: parsing numbers, and shell completion."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

N = TypeVar("N", int, float)


def count(least: int) -> Callable[[str], int]:
    """Return a parser for whole numbers.

    Args:
        least: The minimum.
    """
    return lambda text: _number(int, text, least, "a whole number")


def seconds(text: str) -> float:
    """Parse a number of seconds.

    Raises:
        click.BadParameter: the text is not a valid number.
    """
    return _number(float, text, 0, "a number of seconds, such as 5 or 0.5")


def _number(kind: Callable[[str], N], text: str, least: int, what: str) -> N:
    try:
        value = kind(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not {what}") from None
    if not value >= least:
        raise click.BadParameter(f"{text} is less than {least}")
    return value


def complete_file(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Let the shell complete a path."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def complete_directory(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Let the shell complete the path of a directory."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]


def complete_output(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Complete ``type=TYPE,KEY=VALUE...``."""
    from exporter.cli.completion.values import output_values

    return output_values(incomplete)


def complete_type(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Complete the name of an exporter type."""
    from exporter.cli.completion.values import type_names

    return type_names(incomplete)


def complete_types(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Complete the names of exporter types, separated by commas."""
    from exporter.cli.completion.values import type_lists

    return type_lists(incomplete)


def complete_sample(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Complete the name of a sample."""
    from click.shell_completion import CompletionItem

    from exporter.source.samples import sample_names

    return [CompletionItem(name) for name in sample_names() if name.startswith(incomplete)]
