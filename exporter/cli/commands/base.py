"""Building blocks for declaring commands: click's, with our messages and help layout."""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import click

from exporter.cli.commands.summaries import SUMMARIES
from exporter.lazy import named

PROGRAM = "buildkit-exporter"
HELP_WIDTH = 100
"""The width of help pages. It is fixed, because the documentation quotes them."""

OPTIONS = "Options"
"""The heading for flags that have no other section."""

_NAMES_WIDTH = 30  # columns for the names of flags; the help of a longer one begins on the next line


@dataclass(frozen=True, kw_only=True)
class Args:
    """The arguments that all commands have.

    Attributes:
        debug: Whether to show debug messages and tracebacks.
    """

    debug: bool


A = TypeVar("A", bound=Args)


@dataclass(frozen=True, slots=True)
class Invocation:
    """A parsed command line.

    Attributes:
        args: Its arguments.
        run: Runs the command, and returns the exit status.
        usage: The command's usage line.
    """

    args: Args
    run: Callable[[], int]
    usage: str


class HelpFormatter(click.HelpFormatter):
    """Formats help in `HELP_WIDTH` columns. Names of flags are never broken at hyphens."""

    def __init__(self) -> None:
        super().__init__(width=HELP_WIDTH, max_width=HELP_WIDTH)

    def write_lines(self, text: str) -> None:
        """Write a paragraph."""
        for line in textwrap.wrap(text, self.width, break_on_hyphens=False):
            self.write(f"{line}\n")

    def write_names(self, rows: Iterable[tuple[str, str]], names_width: int) -> None:
        """Write names and their help in two columns."""
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
    """click's context, with our help layout."""

    formatter_class = HelpFormatter

    def make_formatter(self) -> HelpFormatter:
        """Create a formatter whose width does not depend on the terminal."""
        return HelpFormatter()


class Flag(click.Option):
    """A flag with a value.

    Args:
        names: Its spellings, such as ``-o`` and ``--output``.
        metavar: The placeholder for the value in help; None for a flag without a value.
        help: Its help, including the default.
        section: The heading under which help lists it.
        choices: The possible values, if they are a fixed set.
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
        """Its names and its help."""
        names = ", ".join(self.opts)
        return (f"{names} {self.metavar}" if self.metavar else names), self.help or ""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Convert what the user wrote.

        Raises:
            click.UsageError: the value is missing, and the next flag was taken for it.
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
    """A positional argument.

    Args:
        name: Its name, in lower case; users see it in upper case.
        help: Its help.
        attrs: See `click.Argument`.
    """

    def __init__(self, name: str, *, help: str, **attrs: Any) -> None:
        super().__init__([name], **{"metavar": name.upper()} | attrs)
        self.meaning = help


def debug_switch() -> Switch:
    """The flag that the program and every command have."""
    return Switch("--debug", help="show debug messages, and tracebacks of errors")


class Command(click.Command, Generic[A]):
    """A command.

    Args:
        name: Its name, one of `SUMMARIES`.
        args_type: The type of `run`'s argument, with a field for each of `params`.
        run: The implementation, as ``module:function``, which is imported when the command runs. It takes an
            `args_type` and returns the exit status.
        usage: The rest of the usage line, after its name.
        params: Its arguments and flags.
        epilog: Text at the end of its help.
    """

    context_class = Context

    def __init__(
        self,
        name: str,
        args_type: type[A],
        run: str,
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
            # We report superfluous arguments ourselves.
            context_settings={"help_option_names": ["-h", "--help"], "allow_extra_args": True},
        )
        self.args_type = args_type
        self.run = run
        self._usage = usage

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """The rest of the usage line, after the command's name."""
        return [self._usage]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line.

        Raises:
            click.UsageError: it is invalid.
        """
        try:
            rest = super().parse_args(ctx, self._with_plain_switches(ctx, args))
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # click omits it if a flag has no value
            raise
        if rest and not ctx.resilient_parsing:
            raise click.UsageError(f"unexpected argument {rest[0]}", ctx)
        return rest

    def _with_plain_switches(self, ctx: click.Context, args: Sequence[str]) -> list[str]:
        """Accept ``--push=true`` and ``--push=false``, which docker allows, too. The last one wins.

        Raises:
            click.UsageError: a switch has another value.
        """
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
            from exporter.image.go.text import parse_bool  # slow, and rarely needed

            try:
                is_on = parse_bool(value)
            except ValueError:
                raise click.UsageError(f"{name}: {value!r} is neither true nor false", ctx) from None
            kept = [other for other in kept if other != name] + [name] * is_on
        return [*kept, *args[end:]]

    def invoke(self, ctx: click.Context) -> Invocation:
        """Return what to run."""
        is_debug = ctx.params["debug"] or ctx.find_root().params["debug"]
        args = self.args_type(**(ctx.params | {"debug": is_debug}))
        return Invocation(args, partial(self._call, args), ctx.get_usage())

    def _call(self, args: A) -> int:
        run: Callable[[A], int] = named(self.run)
        return run(args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help page."""
        write_page(self, ctx, formatter, {})


class Program(click.Group):
    """The whole command line. Its commands are imported on demand.

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
        """The names of the commands, in the order of the help."""
        return list(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Look up a command by its name; None if it does not exist."""
        return load_command(cmd_name) if cmd_name in SUMMARIES else None

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """The rest of the usage line, after the program's name."""
        return ["COMMAND [OPTIONS]"]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command.

        Raises:
            UnknownCommandError: it does not exist.
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
    """The command does not exist."""

    def __init__(self, name: str, ctx: click.Context) -> None:
        super().__init__(f"unknown command {name}", ctx)
        self.name = name


def write_page(
    command: click.Command,
    ctx: click.Context,
    formatter: click.HelpFormatter,
    sections: dict[str, list[tuple[str, str]]],
) -> None:
    """Write a help page: usage, description, arguments and flags by section, epilog.

    Args:
        command: The command.
        ctx: The command's context.
        formatter: Receives the page.
        sections: The sections before the flags, by heading.
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
                names = ", ".join(sorted(param.opts, key=len))  # click 8.2 does not have a fixed order
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
    """The long names of the command's flags."""
    return {name for param in ctx.command.get_params(ctx) for name in param.opts if name.startswith("--")}
