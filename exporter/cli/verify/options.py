"""Options of the command ``verify``."""

from __future__ import annotations

import argparse

from exporter.cli.containerd import add_containerd_options
from exporter.cli.registries import add_registry_options


def add_verify_options(parser: argparse.ArgumentParser) -> None:
    """Let a command have these options."""
    parser.add_argument(
        "place",
        metavar="PLACE",
        help="OCI layout directory, OCI or Docker archive, or a --root; else the name of an image in "
        "a registry",
    )
    parser.add_argument(
        "image",
        nargs="?",
        metavar="IMAGE",
        help="only this one of several: a name, or the beginning of a digest",
    )
    parser.add_argument(
        "--platform", metavar="PLATFORM", help="only images for this platform, e.g. linux/arm64"
    )
    add_containerd_options(
        parser,
        "PLACE is the name of an image in this containerd: the path of its socket",
        with_snapshotter=False,
    )
    add_registry_options(parser)
    parser.add_argument(
        "--registry-insecure",
        action="store_true",
        help="accept any certificate of a registry, and plain HTTP",
    )
