"""The options of ``build``, spelled as those of ``docker buildx build`` and buildctl."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_build_options(parser: argparse.ArgumentParser) -> None:
    """Add them, but for those that other commands have, too."""
    parser.add_argument(
        "context",
        metavar="CONTEXT",
        help="directory that the build may read, or URL of a Git repository",
    )
    parser.add_argument(
        "-f",
        "--file",
        metavar="FILE",
        help="the Dockerfile; - for standard input (default: CONTEXT/Dockerfile)",
    )
    _add_list(parser, "-t", "--tag", "NAME", "name of the image; repeatable")
    _add_list(
        parser,
        "-o",
        "--output",
        "OUTPUT",
        "type=TYPE[,dest=PATH][,KEY=VALUE...]; repeatable. Types that the daemon does not have run here",
    )
    _add_list(parser, None, "--build-arg", "NAME[=VALUE]", "set an ARG; without value: from the environment")
    _add_list(
        parser, None, "--build-context", "NAME=PLACE", "another context: a directory, image, or OCI layout"
    )
    _add_list(parser, None, "--label", "KEY=VALUE", "label of the image; repeatable")
    parser.add_argument("--target", metavar="STAGE", help="the stage to build (default: the last)")
    _add_list(parser, None, "--platform", "PLATFORM,...", "what to build for (default: the daemon's own)")
    _add_list(
        parser, None, "--secret", "SECRET", "id=ID[,src=FILE|,env=NAME]: what RUN --mount=type=secret gets"
    )
    _add_list(
        parser, None, "--allow", "PRIVILEGE", "let steps have it: network.host, security.insecure; repeatable"
    )
    parser.add_argument("--network", metavar="MODE", help="network of the steps: default, host or none")
    parser.add_argument("--no-cache", action="store_true", help="run all steps, whatever the cache has")
    parser.add_argument("--pull", action="store_true", help="look for newer base images")
    _add_list(
        parser, None, "--cache-from", "PLACE", "where cache comes from: type=TYPE[,KEY=VALUE...]; repeatable"
    )
    _add_list(parser, None, "--cache-to", "PLACE", "where cache goes: type=TYPE[,KEY=VALUE...]; repeatable")
    _add_list(parser, None, "--opt", "KEY=VALUE", "attribute of the Dockerfile frontend; repeatable")
    _add_list(
        parser,
        None,
        "--take",
        "TYPE,...",
        "run these types here although the daemon has them; any type can be asked for as plugin.TYPE "
        "without that",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="fail where the daemon's image is not the one computed here: its config, for types that run "
        "here; its ID, with a Docker engine",
    )
    parser.add_argument(
        "--save-source",
        type=Path,
        metavar="DIR",
        help="save the build result of each output that runs here in a directory below this one",
    )
    parser.add_argument("--iidfile", type=Path, metavar="FILE", help="write the image's ID there")


def _add_list(parser: argparse.ArgumentParser, short: str | None, name: str, metavar: str, what: str) -> None:
    names = [name] if short is None else [short, name]
    parser.add_argument(*names, action="append", default=[], metavar=metavar, help=what)
