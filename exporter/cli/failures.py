"""How a command ends."""

from __future__ import annotations

import enum

from exporter.errors import InvalidArgumentError


class ExitCode(enum.IntEnum):
    """What a shell sees. A signal adds its number to 128, so that Ctrl-C gives 130."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SIGNAL = 128


class UsageError(InvalidArgumentError):
    """The command line cannot be used; nothing has been done."""
