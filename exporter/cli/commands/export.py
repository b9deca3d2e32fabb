"""``export``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporter.cli.commands.base import Command, Flag
from exporter.cli.commands.shared import (
    ClientArgs,
    ReportingArgs,
    WorkplaceArgs,
    client_flags,
    reporting_flags,
    workplace_flags,
)
from exporter.cli.commands.values import complete_directory, complete_output

_EPILOG = """\
Where an output goes:
  dest=PATH                 the file or directory; archives go to standard output without it
  load=true[,context=NAME]  with type=docker: a Docker engine, that of the docker context or else the
                            one that docker itself would use

Exit status: 0 done, 1 the export failed, 2 wrong usage, 130 interrupted."""


@dataclass(frozen=True, kw_only=True)
class ExportArgs(ReportingArgs, WorkplaceArgs, ClientArgs):
    """The arguments.

    Attributes:
        source: The directory of the saved source.
        output: The outputs, as they were written.
    """

    source: Path
    output: tuple[str, ...]


EXPORT = Command(
    "export",
    ExportArgs,
    "exporter.cli.export.command:run_export",
    usage="--source DIR --output type=TYPE[,KEY=VALUE...] [OPTIONS]",
    epilog=_EPILOG,
    params=[
        Flag(
            "--source",
            metavar="DIR",
            type=Path,
            required=True,
            help="directory of the saved source: a build result",
            shell_complete=complete_directory,
        ),
        Flag(
            "-o",
            "--output",
            metavar="OUTPUT",
            multiple=True,
            required=True,
            help="type=TYPE[,dest=PATH][,KEY=VALUE...], e.g. type=oci,dest=app.tar,name=example.com/app:v1; "
            "repeatable",
            shell_complete=complete_output,
        ),
        *reporting_flags(),
        *client_flags("export on the server at this address, as a daemon does"),
        *workplace_flags(),
    ],
)
