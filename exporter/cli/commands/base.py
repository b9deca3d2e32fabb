"""What declarations of commands are made of: click's, with the texts and the layout of ours."""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import click

from exporter.cli.commands.summaries import SUMMARIES

PROGRAM = "buildkit-exporter"
HELP_WIDTH = 100
"""Columns of help pages, on every terminal: the documentation quotes them."""

OPTIONS = "Options"
"""Heading of the flags that belong to no other section."""

_NAMES_WIDTH = 30  # columns for the names of flags; the explanation of a longer one begins on the next line


@dataclass(frozen=True, kw_only=True)
class Args:
    """What the command line says to every command.

    Attributes:
        debug: Whether to show debug messages, and tracebacks of errors.
    """

    debug: bool


A = TypeVar("A", bound=Args)


@dataclass(frozen=True, slots=True)
class Invocation:
    """A command line that has been understood.

    Attributes:
        args: What it says.
        run: Carries it out; returns the exit status.
        usage: How the command is written.
    """

    args: Args
    run: Callable[[], int]
    usage: str


class HelpFormatter(click.HelpFormatter):
    """Lays out help in `HELP_WIDTH` columns. Names of flags are never broken at their hyphens."""

    def __init__(self) -> None:
        super().__init__(width=HELP_WIDTH, max_width=HELP_WIDTH)

    def write_lines(self, text: str) -> None:
        """Write a paragraph."""
        for line in textwrap.wrap(text, self.width, break_on_hyphens=False):
            self.write(f"{line}\n")

    def write_names(self, rows: Iterable[tuple[str, str]], names_width: int) -> None:
        """Write what each name means, side by side."""
        indent = " " * self.current_indent
        column = self.current_indent + names_width + 2
        for name, meaning in rows:
            lines = textwrap.wrap(meaning, self.width - column, break_on_hyphens=False)
            first = f"{indent}{name}"
            if len(name) <= names_width and lines:
                first = f"{first:<{column}}{lines.pop(0)}"
            self.write(f"{first}\n")
            for line in lines:
                self.write(f"{'':<{column}}{line}\n")


class Context(click.Context):
    """click's, with our layout of help."""

    formatter_class = HelpFormatter

    def make_formatter(self) -> HelpFormatter:
        """Make one whose width does not depend on the terminal."""
        return HelpFormatter()


class Flag(click.Option):
    """A flag that has a value.

    Args:
        names: Its spellings, such as ``-o`` and ``--output``.
        metavar: What help calls the value; None for a flag without one.
        help: What it is for. Says the default, too.
        section: Heading under which help lists it.
        choices: The values that there are, if they can be listed.
        attrs: See `click.Option`.
    """

    def __init__(
        self,
        *names: str,
        metavar: str | None,
        help: str,
        section: str = OPTIONS,
        choices: Sequence[str] | None = None,
        **attrs: Any,
    ) -> None:
        if choices is not None:
            attrs["type"] = click.Choice(choices)
        super().__init__(names, metavar=metavar, help=help, **attrs)
        self.section = section

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """Its names, and what it is for."""
        names = ", ".join(self.opts)
        return (f"{names} {self.metavar}" if self.metavar else names), self.help or ""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Convert what the user wrote.

        Raises:
            click.UsageError: the value is the next flag: the flag's own was forgotten.
        """
        flags = _flags_of(ctx)
        for text in [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else ():
            if text in flags:
                raise click.UsageError(f"{self.opts[-1]} needs a value, but is followed by {text}", ctx)
        return super().type_cast_value(ctx, value)


class Switch(Flag):
    """A flag without a value. See `Flag`."""

    def __init__(self, *names: str, help: str, section: str = OPTIONS) -> None:
        super().__init__(*names, metavar=None, help=help, section=section, is_flag=True, default=False)


class Argument(click.Argument):
    """A word that is no flag.

    Args:
        name: Its name, in lower case; users see it in upper case.
        help: What it is.
        attrs: See `click.Argument`.
    """

    def __init__(self, name: str, *, help: str, **attrs: Any) -> None:
        super().__init__([name], **{"metavar": name.upper()} | attrs)
        self.meaning = help


def debug_switch() -> Switch:
    """The flag that every command has, and the program itself."""
    return Switch("--debug", help="show debug messages, and tracebacks of errors")


class Command(click.Command, Generic[A]):
    """A command.

    Args:
        name: Its name, one of `SUMMARIES`.
        args_type: What `run` is given: a field for each of `params`.
        run: Imports what carries the command out, and calls it.
        usage: What follows its name on the command line.
        params: Its arguments and flags.
        epilog: Lines at the end of its help.
    """

    context_class = Context

    def __init__(
        self,
        name: str,
        args_type: type[A],
        run: Callable[[A], int],
        *,
        usage: str,
        params: Sequence[click.Parameter],
        epilog: str | None = None,
    ) -> None:
        summary = SUMMARIES[name]
        super().__init__(
            name,
            params=[*params, debug_switch()],
            help=f"{summary[0].upper()}{summary[1:]}.",
            short_help=summary,
            epilog=epilog,
            # Whoever has a word too many hears about it from us.
            context_settings={"help_option_names": ["-h", "--help"], "allow_extra_args": True},
        )
        self._args_type = args_type
        self._run = run
        self._usage = usage

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """What follows the command's name."""
        return [self._usage]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line.

        Raises:
            click.UsageError: it cannot be understood.
        """
        try:
            rest = super().parse_args(ctx, self._with_plain_switches(ctx, args))
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # click leaves it out where a flag has no value
            raise
        if rest and not ctx.resilient_parsing:
            raise click.UsageError(f"unexpected argument {rest[0]}", ctx)
        return rest

    def _with_plain_switches(self, ctx: click.Context, args: Sequence[str]) -> list[str]:
        """Read ``--push=true`` and ``--push=false``, as docker spells switches, too. The last one counts.

        Raises:
            click.UsageError: a switch has another value.
        """
        from exporter.image.go.text import parse_bool  # completion need not import it

        switches = {
            name for param in self.get_params(ctx) if isinstance(param, Switch) for name in param.opts
        }
        kept: list[str] = []
        end = args.index("--") if "--" in args else len(args)
        for word in args[:end]:
            name, equals, value = word.partition("=")
            if not equals or name not in switches:
                kept.append(word)
                continue
            try:
                is_on = parse_bool(value)
            except ValueError:
                raise click.UsageError(f"{name}: {value!r} is neither true nor false", ctx) from None
            kept = [other for other in kept if other != name] + [name] * is_on
        return [*kept, *args[end:]]

    def invoke(self, ctx: click.Context) -> Invocation:
        """Say what is to be run."""
        is_debug = ctx.params["debug"] or ctx.find_root().params["debug"]
        args = self._args_type(**(ctx.params | {"debug": is_debug}))
        return Invocation(args, partial(self._run, args), ctx.get_usage())

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help page."""
        write_page(self, ctx, formatter, {})


class Program(click.Group):
    """The whole command line. Its commands are imported when they are asked for.

    Args:
        params: The program's own flags.
        summary: A sentence about it.
    """

    context_class = Context

    def __init__(self, *, params: Sequence[click.Parameter], summary: str) -> None:
        super().__init__(
            PROGRAM,
            params=[*params, debug_switch()],
            help=summary,
            epilog=f"'{PROGRAM} COMMAND --help' shows the options of a command.",
            no_args_is_help=False,
            invoke_without_command=True,
            context_settings={"help_option_names": ["-h", "--help"]},
        )

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order of the help."""
        return list(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name; None if there is none of that name."""
        return load_command(cmd_name) if cmd_name in SUMMARIES else None

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """What follows the program's name."""
        return ["COMMAND [OPTIONS]"]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant.

        Raises:
            UnknownCommandError: there is none of that name.
        """
        if args[0] not in SUMMARIES and not ctx.resilient_parsing:
            raise UnknownCommandError(args[0], ctx)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help page."""
        write_page(self, ctx, formatter, {"Commands": list(SUMMARIES.items())})


def load_command(name: str) -> Command[Any]:
    """Import the declaration of one of `SUMMARIES`."""
    module = importlib.import_module(f"exporter.cli.commands.{name}")
    command = getattr(module, name.upper())
    assert isinstance(command, Command)
    return command


class UnknownCommandError(click.UsageError):
    """There is no such command."""

    def __init__(self, name: str, ctx: click.Context) -> None:
        super().__init__(f"unknown command {name}", ctx)
        self.name = name


def write_page(
    command: click.Command,
    ctx: click.Context,
    formatter: click.HelpFormatter,
    sections: dict[str, list[tuple[str, str]]],
) -> None:
    """Write a help page: usage, what the command does, its arguments and flags under their headings, the end.

    Args:
        command: What it is about.
        ctx: The command's.
        formatter: Takes the page.
        sections: What comes before the flags, by heading.
    """
    assert isinstance(formatter, HelpFormatter)
    rows = dict(sections)
    for param in command.get_params(ctx):
        match param:
            case Argument():
                rows.setdefault("Arguments", []).append((param.metavar or "", param.meaning))
            case Flag() if not param.hidden:
                rows.setdefault(param.section, []).append(param.get_help_record(ctx))
            case click.Option() if not param.hidden:  # click's own
                meaning = "show this page and exit" if "--help" in param.opts else param.help or ""
                names = ", ".join(sorted(param.opts, key=len))  # click 8.2 has them in no fixed order
                rows.setdefault(OPTIONS, []).append((names, meaning))
    width = max(len(name) for section in rows.values() for name, _ in section if len(name) <= _NAMES_WIDTH)
    formatter.write_usage(ctx.command_path, " ".join(command.collect_usage_pieces(ctx)))
    formatter.write("\n")
    formatter.write_lines(command.help or "")
    for heading, section in rows.items():
        formatter.write(f"\n{heading}:\n")
        with formatter.indentation():
            formatter.write_names(section, width)
    if command.epilog:
        formatter.write(f"\n{command.epilog}\n")


def _flags_of(ctx: click.Context) -> set[str]:
    """Long spellings of the command's flags."""
    return {name for param in ctx.command.get_params(ctx) for name in param.opts if name.startswith("--")}
