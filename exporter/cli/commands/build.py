"""``build``. Flags are spelled as those of ``docker buildx build`` and buildctl."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporter.cli.commands.base import Argument, Command, Flag, Switch
from exporter.cli.commands.shared import (
    DEFAULT_BUILDKITD,
    ClientArgs,
    ReportingArgs,
    WorkplaceArgs,
    client_flags,
    directory_flag,
    file_flag,
    reporting_flags,
    workplace_flags,
)
from exporter.cli.commands.values import complete_directory, complete_file, complete_output, complete_types

_DOCKERFILE = "Dockerfile"
_CACHE = "Cache"


@dataclass(frozen=True, kw_only=True)
class BuildArgs(ReportingArgs, ClientArgs, WorkplaceArgs):
    """What the command line says, as it was written; `Command`'s help tells what it means."""

    context: str
    file: str | None
    tag: tuple[str, ...]
    output: tuple[str, ...]
    build_arg: tuple[str, ...]
    build_context: tuple[str, ...]
    label: tuple[str, ...]
    target: str | None
    platform: tuple[str, ...]
    secret: tuple[str, ...]
    allow: tuple[str, ...]
    network: str | None
    no_cache: bool
    pull: bool
    cache_from: tuple[str, ...]
    cache_to: tuple[str, ...]
    opt: tuple[str, ...]
    take: tuple[str, ...]
    strict: bool
    save_source: Path | None
    iidfile: Path | None


def _run(args: BuildArgs) -> int:
    from exporter.cli.build.command import run_build

    return run_build(args)


BUILD = Command(
    "build",
    BuildArgs,
    _run,
    usage="CONTEXT [-t NAME] [-o OUTPUT] [OPTIONS]",
    epilog="Exit status: 0 done, 1 the build failed, 2 wrong usage, 130 interrupted.",
    params=[
        Argument(
            "context",
            help="directory that the build may read, or URL of a Git repository",
            shell_complete=complete_directory,
        ),
        Flag("-t", "--tag", metavar="NAME", multiple=True, help="name of the image; repeatable"),
        Flag(
            "-o",
            "--output",
            metavar="OUTPUT",
            multiple=True,
            help="type=TYPE[,dest=PATH][,KEY=VALUE...]; repeatable. Types that the daemon does not have run "
            "here",
            shell_complete=complete_output,
        ),
        Flag(
            "--take",
            metavar="TYPE,...",
            multiple=True,
            help="run these types here although the daemon has them; any type can be asked for as "
            "plugin.TYPE without that",
            shell_complete=complete_types,
        ),
        Switch(
            "--strict",
            help="fail where the daemon's image is not the one computed here: its config, for types that run "
            "here; its ID, with a Docker engine",
        ),
        directory_flag(
            "--save-source",
            help="save the build result of each output that runs here in a directory below this one",
        ),
        file_flag("--iidfile", help="write the image's ID there"),
        *reporting_flags(),
        Flag(
            "-f",
            "--file",
            metavar="FILE",
            help="the Dockerfile; - for standard input (default: CONTEXT/Dockerfile)",
            section=_DOCKERFILE,
            shell_complete=complete_file,
        ),
        Flag(
            "--build-arg",
            metavar="NAME[=VALUE]",
            multiple=True,
            help="set an ARG; without value: from the environment",
            section=_DOCKERFILE,
        ),
        Flag(
            "--build-context",
            metavar="NAME=PLACE",
            multiple=True,
            help="another context: a directory, image, or OCI layout",
            section=_DOCKERFILE,
        ),
        Flag(
            "--label",
            metavar="KEY=VALUE",
            multiple=True,
            help="label of the image; repeatable",
            section=_DOCKERFILE,
        ),
        Flag(
            "--target",
            metavar="STAGE",
            help="the stage to build (default: the last)",
            section=_DOCKERFILE,
        ),
        Flag(
            "--platform",
            metavar="PLATFORM,...",
            multiple=True,
            help="what to build for (default: the daemon's own)",
            section=_DOCKERFILE,
        ),
        Flag(
            "--secret",
            metavar="SECRET",
            multiple=True,
            help="id=ID[,src=FILE|,env=NAME]: what RUN --mount=type=secret gets",
            section=_DOCKERFILE,
        ),
        Flag(
            "--allow",
            metavar="PRIVILEGE",
            multiple=True,
            help="let steps have it: network.host, security.insecure; repeatable",
            section=_DOCKERFILE,
        ),
        Flag(
            "--network",
            metavar="MODE",
            help="network of the steps: default, host or none",
            section=_DOCKERFILE,
        ),
        Flag(
            "--opt",
            metavar="KEY=VALUE",
            multiple=True,
            help="attribute of the Dockerfile frontend; repeatable",
            section=_DOCKERFILE,
        ),
        Switch("--no-cache", help="run all steps, whatever the cache has", section=_CACHE),
        Switch("--pull", help="look for newer base images", section=_CACHE),
        Flag(
            "--cache-from",
            metavar="PLACE",
            multiple=True,
            help="where cache comes from: type=TYPE[,KEY=VALUE...]; repeatable",
            section=_CACHE,
        ),
        Flag(
            "--cache-to",
            metavar="PLACE",
            multiple=True,
            help="where cache goes: type=TYPE[,KEY=VALUE...]; repeatable",
            section=_CACHE,
        ),
        *client_flags(
            "the daemon: unix:///PATH or tcp://HOST:PORT of a buildkitd or a Docker engine, or docker for "
            "the engine that docker itself would use "
            f"(default: $BUILDKIT_HOST, else {DEFAULT_BUILDKITD})"
        ),
        *workplace_flags(),
    ],
)
