"""``verify``."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.cli.commands.base import Argument, Command, Flag, Switch
from exporter.cli.commands.shared import ContainerdArgs, RegistryArgs, containerd_flags, registry_flags
from exporter.cli.commands.values import complete_file


@dataclass(frozen=True, kw_only=True)
class VerifyArgs(ContainerdArgs, RegistryArgs):
    """The arguments.

    Attributes:
        place: A path, or the name of an image in a registry or containerd.
        image: Verify only this image; None for all.
        platform: Verify only images for this platform; None for all.
        registry_insecure: Whether to accept any certificate of a registry, and plain HTTP.
        quiet: Whether to print only problems.
        no_trunc: Whether digests are shown in full.
        json: Whether to print JSON.
    """

    place: str
    image: str | None
    platform: str | None
    registry_insecure: bool
    quiet: bool
    no_trunc: bool
    json: bool


VERIFY = Command(
    "verify",
    VerifyArgs,
    "exporter.cli.verify.command:run_verify",
    usage="PLACE [IMAGE] [OPTIONS]",
    epilog="Exit status: 0 no problems, 1 there are some or the image cannot be reached, 2 wrong usage.",
    params=[
        Argument(
            "place",
            help="OCI layout directory, OCI or Docker archive, or image store (a --root); "
            "anything else is the name of an image in a registry",
            shell_complete=complete_file,
        ),
        Argument(
            "image", required=False, help="only this one of several: a name, or the beginning of a digest"
        ),
        Flag("--platform", metavar="PLATFORM", help="only images for this platform, e.g. linux/arm64"),
        Switch("-q", "--quiet", help="print problems only, and nothing if there are none"),
        Switch("--no-trunc", help="do not shorten digests"),
        Switch("--json", help="print JSON"),
        *containerd_flags(
            "PLACE is the name of an image in this containerd: the path of its socket",
            with_snapshotter=False,
            section="Image in a containerd",
        ),
        *registry_flags(),
        Switch(
            "--registry-insecure",
            help="accept any certificate of a registry, and plain HTTP",
            section="Registries",
        ),
    ],
)
