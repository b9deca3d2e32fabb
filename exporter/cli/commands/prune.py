"""``prune``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporter.cli.commands.base import Args, Command, Switch
from exporter.cli.commands.shared import root_flag, seconds_flag


@dataclass(frozen=True, kw_only=True)
class PruneArgs(Args):
    """The arguments.

    Attributes:
        root: The directory of the embedded image store; None for the default.
        all: Whether to remove images without a name, too.
        keep_duration: Data newer than this many seconds is kept.
    """

    root: Path | None
    all: bool
    keep_duration: float


PRUNE = Command(
    "prune",
    PruneArgs,
    "exporter.cli.prune:run_prune",
    usage="[OPTIONS]",
    params=[
        root_flag(),
        Switch("--all", help="also remove images without a name"),
        seconds_flag(
            "--keep-duration",
            default=3600.0,
            help="keep data newer than this: running exports may need it",
        ),
    ],
)
