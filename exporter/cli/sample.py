"""The command ``sample``."""

from __future__ import annotations

import sys
from pathlib import Path

from exporter.cli.commands.sample import SampleArgs
from exporter.cli.failures import ExitCode, UsageError
from exporter.errors import FailedPreconditionError, NotFoundError
from exporter.source.samples import sample_names, sample_summary, write_sample


def run_sample(options: SampleArgs) -> int:
    """Write a sample, or list the available ones.

    Raises:
        UsageError: no directory is given, it is in use, or the sample does not exist.
        FailedPreconditionError: the directory is not writable.
    """
    if options.list:
        for name in sample_names():
            print(f"{name:16} {sample_summary(name)}")
        return ExitCode.OK
    if options.directory is None:
        raise UsageError("name the directory that the sample goes to, or --list the samples")
    directory: Path = options.directory
    try:
        write_sample(directory, options.name)
    except (FailedPreconditionError, NotFoundError) as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise FailedPreconditionError(
            f"the sample cannot be written to {directory}: {error.strerror or error}"
        ) from error
    print(f"{directory}: {sample_summary(options.name)}", file=sys.stderr)
    return ExitCode.OK
