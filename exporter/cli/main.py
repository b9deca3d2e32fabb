"""The command's entry point."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence

import click

from exporter.cli.commands.base import Invocation
from exporter.cli.commands.completion import ASKING
from exporter.cli.failures import ExitCode, UsageError
from exporter.cli.parser import ROOT, parse
from exporter.cli.usage import explain, with_usage
from exporter.errors import ExporterError, failure_of, os_error_text

_KEPT_BYTES = 8 << 20
"""The size up to which glibc reuses freed memory; its trim threshold becomes twice as much."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The arguments after the program's name; those of the process if None.

    Returns:
        The exit status, see `ExitCode`.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names may contain characters that the terminal's encoding does not have.
        sys.stdout.reconfigure(errors="backslashreplace")
    _keep_freed_memory()
    # gRPC's C core would log to standard error, in its own format, what our messages already say.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
        if argv is None:
            # At exit, Python would search all modules for garbage: a tenth of a short command's time.
            gc.freeze()
        return _flush(status)
    except BrokenPipeError:  # the reader has closed the pipe
        _give_up_stdout()
        return ExitCode.SIGNAL + signal.SIGPIPE
    except KeyboardInterrupt:
        return ExitCode.SIGNAL + signal.SIGINT


def _flush(status: int) -> int:
    """Flush standard output, and return the exit status."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _give_up_stdout()
        if status == ExitCode.OK:
            print(f"error: standard output: {os_error_text(error)}", file=sys.stderr)
            return ExitCode.FAILED
    return status


def _give_up_stdout() -> None:
    """Discard buffered output. Otherwise, Python would fail again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _keep_freed_memory() -> None:
    """Make glibc reuse freed memory instead of returning it to the kernel.

    Chunks of blobs are so large that glibc would map and unmap memory for each of them, with a page fault per
    4 KiB. Its threshold is dynamic: when a mapped block is freed, glibc raises the threshold to its size.
    """
    bytearray(_KEPT_BYTES)


def _run(words: Sequence[str]) -> int:
    """Run the command; its implementation is imported only now."""
    if (shell := os.environ.get(ASKING)) is not None:
        from exporter.cli.completion.shells import answer

        print(answer(shell, ROOT), end="")
        return ExitCode.OK
    try:
        invocation = parse(words)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        print(explain(error), file=sys.stderr)
        return ExitCode.USAGE
    try:
        return invocation.run()
    except BrokenPipeError:
        raise
    except UsageError as error:
        return _report(invocation, error, ExitCode.USAGE)
    except Exception as error:
        return _report(invocation, error, ExitCode.FAILED)


def _report(invocation: Invocation, error: Exception, status: ExitCode) -> ExitCode:
    """Print an error, with a traceback if ``--debug`` is set."""
    from exporter.exporters.plugins import PluginError  # a slow import that only failures need

    is_debug = invocation.args.debug
    if is_debug:
        traceback.print_exception(error)
    is_known = isinstance(error, ExporterError | OSError)
    message = failure_of(error).message
    if isinstance(error, PluginError) and not is_debug:
        message += " (--debug shows where)"
    if not is_known:
        message = f"internal error: {message}"
        if not is_debug:
            message += "\nThis is a bug. Please report it with what --debug shows."
    if status is ExitCode.USAGE:
        print(with_usage(invocation.usage, message), file=sys.stderr)
    else:
        print(f"error: {message}", file=sys.stderr)
    return status
