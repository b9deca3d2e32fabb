"""``images``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporter.cli.commands.base import Args, Command, Switch
from exporter.cli.commands.shared import root_flag


@dataclass(frozen=True, kw_only=True)
class ImagesArgs(Args):
    """The arguments.

    Attributes:
        root: The directory of the embedded image store; None for the default.
        no_trunc: Whether digests and times are shown in full.
        json: Whether to print JSON.
    """

    root: Path | None
    no_trunc: bool
    json: bool


IMAGES = Command(
    "images",
    ImagesArgs,
    "exporter.cli.images:run_images",
    usage="[OPTIONS]",
    params=[
        root_flag(),
        Switch("--no-trunc", help="do not shorten digests and times"),
        Switch("--json", help="print JSON"),
    ],
)
