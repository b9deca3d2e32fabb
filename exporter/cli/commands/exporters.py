"""``exporters``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporter.cli.commands.base import Command, Flag, Switch
from exporter.cli.commands.shared import ClientArgs, client_flags, exporter_module_flag
from exporter.cli.commands.values import complete_type


@dataclass(frozen=True, kw_only=True)
class ExportersArgs(ClientArgs):
    """The arguments.

    Attributes:
        type: The type whose attributes to show; None to list the types.
        json: Whether to print JSON.
        exporter_module: Python files with exporters.
    """

    exporter_module: tuple[Path, ...]

    type: str | None
    json: bool


EXPORTERS = Command(
    "exporters",
    ExportersArgs,
    "exporter.cli.exporters:run_exporters",
    usage="[OPTIONS]",
    params=[
        Flag(
            "--type",
            metavar="TYPE",
            help="show the attributes of this type",
            shell_complete=complete_type,
        ),
        Switch("--json", help="print JSON"),
        exporter_module_flag(),
        *client_flags("ask the server at this address (default: list what is installed here)"),
    ],
)
