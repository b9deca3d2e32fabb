"""Messages about invalid command lines."""

from __future__ import annotations

from collections.abc import Iterable

import click

from exporter.cli.commands.base import Flag, Switch, UnknownCommandError, load_command
from exporter.cli.commands.summaries import SUMMARIES

_SIMILAR = 0.7  # a ratio, see difflib; --sourc and --sorce are about this similar
_MIN_PREFIX = 3  # letters

_FLAGS_OF_COMMANDS = {"help": "--help", "version": "--version"}
"""What other programs have as commands, and this one as flags."""


def explain(error: click.UsageError) -> str:
    """Explain a usage error: the command's usage, the problem, and a suggestion."""
    ctx = error.ctx
    if ctx is None:
        return f"error: {error.format_message()}"
    return with_usage(ctx.get_usage(), _problem(error, ctx))


def with_usage(usage: str, problem: str) -> str:
    """Put a problem below a command's usage line."""
    return f"{usage}\nerror: {problem}"


def _problem(error: click.UsageError, ctx: click.Context) -> str:
    match error:
        case click.NoSuchOption():
            return _unknown_flag(error.option_name, ctx)
        case UnknownCommandError():
            close = _FLAGS_OF_COMMANDS.get(error.name) or _closest(error.name, SUMMARIES)
            hint = f"Did you mean {close}?" if close else f"The commands are {_join(SUMMARIES)}"
            return f"unknown command {error.name}. {hint}"
        case click.MissingParameter():
            # The given arguments have already been parsed.
            required = [param for param in ctx.command.get_params(ctx) if param.required]
            missing = [_spelling(param) for param in required if not ctx.params.get(param.name or "")]
            return f"{_join(missing)} {'is' if len(missing) == 1 else 'are'} required"
        case click.BadOptionUsage():
            takes_value = not isinstance(_param(error.option_name, ctx), Switch)
            return f"{error.option_name} {'needs a value' if takes_value else 'takes no value'}"
        case click.BadParameter(param=click.Parameter() as param):
            return f"{_spelling(param)}: {error.message.removesuffix('.')}"
        case _:
            return error.format_message()


def _unknown_flag(name: str, ctx: click.Context) -> str:
    text = f"unknown flag {name}"
    others = [other for other in SUMMARIES if name in _flags(load_command(other), ctx)]
    if ctx.parent is None:  # before any command
        if others:
            return f"{text}. It belongs to {_join(others)}: write it after the command"
    elif close := _closest(name, _flags(ctx.command, ctx)):
        return f"{text}. Did you mean {close}?"
    elif others:
        return f"{text}. It belongs to {_join(others)}"
    return f"{text}. '{ctx.command_path} --help' lists the flags"


def _closest(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant: one with this prefix, or else a similar one."""
    import difflib

    candidates = list(names)
    if len(name.strip("-")) >= _MIN_PREFIX:
        for candidate in candidates:
            if candidate.startswith(name):
                return candidate
    return next(iter(difflib.get_close_matches(name, candidates, n=1, cutoff=_SIMILAR)), None)


def _flags(command: click.Command, ctx: click.Context) -> list[str]:
    return [
        name for param in command.get_params(ctx) if isinstance(param, click.Option) for name in param.opts
    ]


def _param(name: str, ctx: click.Context) -> click.Parameter | None:
    return next((param for param in ctx.command.get_params(ctx) if name in param.opts), None)


def _spelling(param: click.Parameter) -> str:
    if isinstance(param, Flag):
        return param.opts[-1]
    return param.metavar or param.name or ""


def _join(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
