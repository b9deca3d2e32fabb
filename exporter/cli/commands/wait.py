"""``wait``."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.cli.commands.base import Command, Switch
from exporter.cli.commands.shared import ClientArgs, client_flags

DEFAULT_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class WaitArgs(ClientArgs):
    """The arguments.

    Attributes:
        quiet: Whether to print nothing on success.
    """

    quiet: bool


WAIT = Command(
    "wait",
    WaitArgs,
    "exporter.cli.wait:run_wait",
    usage="--addr ADDRESS [OPTIONS]",
    params=[
        Switch("--quiet", help="print nothing if it answers"),
        *client_flags(
            "where it listens, unix:///PATH or tcp://HOST:PORT",
            required=True,
            timeout_help="how long to wait",
            timeout=DEFAULT_SECONDS,
        ),
    ],
    epilog="Exit status: 0 it answers, 1 it does not, 2 wrong usage, 130 interrupted.",
)
