"""``sample``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporter.cli.commands.base import Args, Argument, Command, Flag, Switch
from exporter.cli.commands.values import complete_directory, complete_sample


@dataclass(frozen=True, kw_only=True)
class SampleArgs(Args):
    """The arguments.

    Attributes:
        directory: The directory to write the sample to; None with `list`.
        name: The name of the sample.
        list: Whether to list the samples.
    """

    directory: Path | None
    name: str
    list: bool


SAMPLE = Command(
    "sample",
    SampleArgs,
    "exporter.cli.sample:run_sample",
    usage="DIR [--name NAME] | --list",
    params=[
        Argument(
            "directory",
            metavar="DIR",
            type=Path,
            required=False,
            help="a new or empty directory to write it to",
            shell_complete=complete_directory,
        ),
        Flag(
            "--name",
            metavar="NAME",
            default="run-chain",
            help="which sample (default: run-chain)",
            shell_complete=complete_sample,
        ),
        Switch("--list", help="list the samples"),
    ],
)
