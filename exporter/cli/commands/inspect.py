"""``inspect``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporter.cli.commands.base import Args, Argument, Command, Flag, Switch
from exporter.cli.commands.values import complete_file


@dataclass(frozen=True, kw_only=True)
class InspectArgs(Args):
    """The arguments.

    Attributes:
        path: The directory or archive.
        image: Show only this image; None for all.
        platform: Show only images for this platform; None for all.
        no_trunc: Whether digests and commands are shown in full.
        json: Whether to print JSON.
    """

    path: Path
    image: str | None
    platform: str | None
    no_trunc: bool
    json: bool


INSPECT = Command(
    "inspect",
    InspectArgs,
    "exporter.cli.inspect.command:run_inspect",
    usage="PATH [IMAGE] [OPTIONS]",
    params=[
        Argument(
            "path",
            type=Path,
            help="OCI layout directory, OCI or Docker archive, saved source, or image store (a --root)",
            shell_complete=complete_file,
        ),
        Argument("image", required=False, help="only this one: a name, or the beginning of a digest"),
        Flag("--platform", metavar="PLATFORM", help="only images for this platform, e.g. linux/arm64"),
        Switch("--no-trunc", help="do not shorten digests and commands"),
        Switch("--json", help="print JSON"),
    ],
)
