"""``new``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporter.cli.commands.base import Args, Argument, Command
from exporter.cli.commands.values import complete_directory


@dataclass(frozen=True, kw_only=True)
class NewArgs(Args):
    """The arguments.

    Attributes:
        name: The name of the package, and the type of its exporter.
        directory: The directory to write it to; None for a directory of that name.
    """

    name: str
    directory: Path | None


NEW = Command(
    "new",
    NewArgs,
    "exporter.cli.new:run_new",
    usage="NAME [DIR]",
    params=[
        Argument(
            "name",
            metavar="NAME",
            help="name of the package, and type of its exporter, such as layer-list",
        ),
        Argument(
            "directory",
            metavar="DIR",
            type=Path,
            required=False,
            help="a new or empty directory to write it to (default: NAME)",
            shell_complete=complete_directory,
        ),
    ],
)
