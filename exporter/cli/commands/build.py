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
_STEPS = "Steps"
_CACHE = "Cache"


@dataclass(frozen=True, kw_only=True)
class BuildArgs(ReportingArgs, ClientArgs, WorkplaceArgs):
    """The arguments, as they were written; see the command's help for their meaning."""

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
    push: bool
    load: bool
    quiet: bool
    call: str | None
    check: bool
    ssh: tuple[str, ...]
    attest: tuple[str, ...]
    provenance: str | None
    sbom: str | None
    annotation: tuple[str, ...]
    add_host: tuple[str, ...]
    no_cache_filter: tuple[str, ...]
    shm_size: str | None
    ulimit: tuple[str, ...]
    cgroup_parent: str | None
    resource: tuple[str, ...]
    builder: str | None


BUILD = Command(
    "build",
    BuildArgs,
    "exporter.cli.build.command:run_build",
    usage="CONTEXT [-t NAME] [-o OUTPUT] [OPTIONS]",
    epilog="Exit status: 0 done, 1 the build failed, 2 wrong usage, 130 interrupted.",
    params=[
        Argument(
            "context",
            help="directory that the build may read; URL of a Git repository or of a tar archive; or - for "
            "standard input, with a tar archive or just a Dockerfile",
            shell_complete=complete_directory,
        ),
        Flag("-t", "--tag", metavar="NAME", multiple=True, help="name of the image; repeatable"),
        Flag(
            "-o",
            "--output",
            metavar="OUTPUT",
            multiple=True,
            help="type=TYPE[,dest=PATH][,KEY=VALUE...]; repeatable. Types that the daemon does not have run "
            "here. DIR alone means type=local,dest=DIR, and - means type=tar,dest=-; type=cacheonly exports "
            "nothing",
            shell_complete=complete_output,
        ),
        Switch("--push", help="push the image to the registries in its names"),
        Switch("--load", help="load the image into a Docker engine, by type=docker,load=true"),
        Switch("-q", "--quiet", help="show no progress, and print the image's ID at the end"),
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
            help="fail if the daemon's image differs from the one computed here: in its config, for types "
            "that run here; in its ID, with a Docker engine",
        ),
        directory_flag(
            "--save-source",
            help="save the build result of each output that runs here in a directory below this one",
        ),
        file_flag("--iidfile", help="write the image's ID to this file"),
        Flag(
            "--call",
            metavar="METHOD",
            help="do not build, but print what is known about the Dockerfile: check, outline or targets"
            "[,format=json][,ignorestatus=true]",
        ),
        Switch("--check", help="short for --call=check: look for mistakes in the Dockerfile"),
        Flag("--builder", metavar="NAME", help="", hidden=True),
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
            help="set an ARG; without a value, to that of the environment variable",
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
            "--annotation",
            metavar="[TYPE:]KEY=VALUE",
            multiple=True,
            help="annotation of the image, or of each TYPE: index, manifest, index-descriptor, "
            "manifest-descriptor, optionally followed by [PLATFORM] and separated by commas",
            section=_DOCKERFILE,
        ),
        Flag(
            "--attest",
            metavar="type=TYPE,...",
            multiple=True,
            help="attach an attestation: type=sbom or type=provenance, with its attributes",
            section=_DOCKERFILE,
        ),
        Flag(
            "--provenance",
            metavar="BOOL|KEY=VALUE,...",
            help="short for --attest=type=provenance",
            section=_DOCKERFILE,
        ),
        Flag(
            "--sbom",
            metavar="BOOL|KEY=VALUE,...",
            help="short for --attest=type=sbom",
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
            help="platforms to build for (default: the daemon's own)",
            section=_DOCKERFILE,
        ),
        Flag(
            "--secret",
            metavar="SECRET",
            multiple=True,
            help="secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=NAME]",
            section=_STEPS,
        ),
        Flag(
            "--ssh",
            metavar="ID[=PATH,...]",
            multiple=True,
            help="SSH agent for RUN --mount=type=ssh and Git: the socket of a running one, or private keys "
            "(default: $SSH_AUTH_SOCK). The ID is usually default. With raw=true among the paths, steps may "
            "say anything to the socket; otherwise, they can list keys and sign",
            section=_STEPS,
        ),
        Flag(
            "--allow",
            metavar="PRIVILEGE",
            multiple=True,
            help="grant steps a privilege: network.host, security.insecure, device; repeatable",
            section=_STEPS,
        ),
        Flag(
            "--network",
            metavar="MODE",
            help="network of the steps: default, host or none",
            section=_STEPS,
        ),
        Flag(
            "--add-host",
            metavar="HOST:IP",
            multiple=True,
            help="a name that steps can look up; host-gateway instead of an IP is the daemon's machine",
            section=_STEPS,
        ),
        Flag("--shm-size", metavar="SIZE", help="size of /dev/shm, such as 128m", section=_STEPS),
        Flag(
            "--ulimit",
            metavar="TYPE=SOFT[:HARD]",
            multiple=True,
            help="resource limit of processes, such as nofile=1024; repeatable",
            section=_STEPS,
        ),
        Flag("--cgroup-parent", metavar="NAME", help="parent cgroup of the steps", section=_STEPS),
        Flag(
            "--resource",
            metavar="KEY=VALUE",
            multiple=True,
            help="resource limit of containers: memory, memory-swap, cpu-shares, cpu-period, cpu-quota, "
            "cpuset-cpus, cpuset-mems",
            section=_STEPS,
        ),
        Flag(
            "--opt",
            metavar="KEY=VALUE",
            multiple=True,
            help="attribute of the Dockerfile frontend; repeatable",
            section=_DOCKERFILE,
        ),
        Switch("--no-cache", help="do not use the cache", section=_CACHE),
        Flag(
            "--no-cache-filter",
            metavar="STAGE",
            multiple=True,
            help="do not use the cache for this stage; repeatable",
            section=_CACHE,
        ),
        Switch("--pull", help="always look for newer base images", section=_CACHE),
        Flag(
            "--cache-from",
            metavar="PLACE",
            multiple=True,
            help="import cache from: type=TYPE[,KEY=VALUE...]; repeatable",
            section=_CACHE,
        ),
        Flag(
            "--cache-to",
            metavar="PLACE",
            multiple=True,
            help="export cache to: type=TYPE[,KEY=VALUE...]; repeatable",
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
