"""Exit statuses and usage errors."""

from __future__ import annotations

import enum

from exporter.errors import InvalidArgumentError


class ExitCode(enum.IntEnum):
    """The exit status. For a signal it is 128 plus the signal's number, so Ctrl-C gives 130."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SIGNAL = 128


class UsageError(InvalidArgumentError):
    """The command line is invalid. Nothing has been done yet."""
