"""The command's entry point."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence

from exporter.cli.failures import ExitCode, UsageError
from exporter.cli.parser import PROGRAM, build_parser
from exporter.errors import ExporterError, failure_of

_KEPT_BYTES = 8 << 20
"""Largest piece of memory that is kept; of those that are free, twice as much."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The words after the program's name; those of the process if None.

    Returns:
        The exit status, see `ExitCode`.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names can be anything; a terminal's encoding cannot say everything.
        sys.stdout.reconfigure(errors="backslashreplace")
    _keep_freed_memory()
    options = build_parser().parse_args(argv)
    try:
        status = _run(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.SIGNAL + signal.SIGPIPE
    except KeyboardInterrupt:
        return ExitCode.SIGNAL + signal.SIGINT
    except UsageError as error:
        return _report(options, error, ExitCode.USAGE)
    except Exception as error:
        return _report(options, error, ExitCode.FAILED)


def _keep_freed_memory() -> None:
    """Have glibc keep memory that becomes free for what comes next.

    Pieces of blobs are so large that it gets each from the kernel, and gives it back, with a page fault for
    every 4 KiB. It learns from what is freed: having seen this, it does so from this size on.
    """
    bytearray(_KEPT_BYTES)


def _run(options: argparse.Namespace) -> int:
    """Run the command that is asked for; its module is loaded only now."""
    match options.command:
        case "serve":
            from exporter.cli.serve import run_serve

            return run_serve(options)
        case "proxy":
            from exporter.cli.proxy import run_proxy

            return run_proxy(options)
        case "build":
            from exporter.cli.build.command import run_build

            return run_build(options)
        case "export":
            from exporter.cli.export.command import run_export

            return run_export(options)
        case "sample":
            from exporter.cli.sample import run_sample

            return run_sample(options)
        case "exporters":
            from exporter.cli.exporters import run_exporters

            return run_exporters(options)
        case "images":
            from exporter.cli.images import run_images

            return run_images(options)
        case "verify":
            from exporter.cli.verify.command import run_verify

            return run_verify(options)
        case "prune":
            from exporter.cli.prune import run_prune

            return run_prune(options)
        case _:
            from exporter.cli.inspect.command import run_inspect

            return run_inspect(options)


def _report(options: argparse.Namespace, error: Exception, status: ExitCode) -> ExitCode:
    """Say what went wrong; where it comes from only if that is asked for."""
    if options.debug:
        traceback.print_exception(error)
    is_known = isinstance(error, ExporterError | OSError)
    message = failure_of(error).message
    if not is_known:
        message = f"internal error: {message}"
        if not options.debug:
            message += "\nThis is a bug. Please report it with what --debug shows."
    where = f"{PROGRAM} {options.command}: " if status is ExitCode.USAGE else ""
    print(f"{where}error: {message}", file=sys.stderr)
    return status
