"""The command ``verify``."""

from __future__ import annotations

import json
import sys

from exporter.cli.commands.verify import VerifyArgs
from exporter.cli.failures import ExitCode
from exporter.cli.printing import print_tables
from exporter.cli.running import run_async
from exporter.cli.verify.places import Selection, verify_place
from exporter.cli.verify.render import render_report, to_document
from exporter.image import digest_bytes
from exporter.progress.display import ProgressMode, display, open_renderer
from exporter.progress.producer import vertex
from exporter.verify import Report


def run_verify(options: VerifyArgs) -> int:
    """Verify images, and print all checks, or with ``--quiet`` only those that found problems.

    Raises:
        UsageError: an option is invalid.
        ExporterError, OSError: there is no image, or it is not reachable.
    """
    selection = Selection.of(options)
    return run_async(_verify(options, selection))


async def _verify(options: VerifyArgs, selection: Selection) -> int:
    report = await _with_progress(selection, quiet=options.quiet)
    if options.quiet and report.is_ok:
        return ExitCode.OK
    if options.json:
        print(json.dumps(to_document(report), indent=2, ensure_ascii=False))
    else:
        tables = render_report(report, truncate=not options.no_trunc, only_problems=options.quiet)
        print_tables(*tables)
    return ExitCode.OK if report.is_ok else ExitCode.FAILED


async def _with_progress(selection: Selection, *, quiet: bool) -> Report:
    """Verify, with progress if standard error is a terminal."""
    mode = ProgressMode.AUTO if sys.stderr.isatty() and not quiet else ProgressMode.QUIET
    async with display(open_renderer(mode, sys.stderr, phase="Verifying")) as sink:
        name = f"verifying {selection.place}"
        with vertex(sink, digest_bytes(name.encode()), name) as progress:
            return await verify_place(selection, progress)
