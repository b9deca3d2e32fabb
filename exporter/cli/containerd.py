"""Options about a containerd, with the environment variables that containerd's own tools know."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from exporter.cli.failures import UsageError
from exporter.errors import InvalidArgumentError

if TYPE_CHECKING:
    from exporter.remotes.containerd import ContainerdConfig


def add_containerd_options(
    parser: argparse.ArgumentParser, containerd_help: str, *, with_snapshotter: bool = True
) -> None:
    """Let a command have these options.

    Args:
        parser: The command's.
        containerd_help: What the containerd is for.
        with_snapshotter: Whether anything is unpacked there.
    """
    parser.add_argument("--containerd", metavar="ADDRESS", help=containerd_help)
    parser.add_argument(
        "--containerd-namespace",
        metavar="NAME",
        help="its namespace (default: $CONTAINERD_NAMESPACE, else default)",
    )
    if with_snapshotter:
        parser.add_argument(
            "--containerd-snapshotter",
            metavar="NAME",
            help="where it puts layers with unpack=true (default: $CONTAINERD_SNAPSHOTTER, else overlayfs)",
        )


def containerd_config(options: argparse.Namespace) -> ContainerdConfig | None:
    """The containerd that the options name; None if they name none.

    Raises:
        UsageError: they cannot be used.
    """
    chosen = {
        key: getattr(options, f"containerd_{key}", None) or os.environ.get(variable)
        for key, variable in (
            ("namespace", "CONTAINERD_NAMESPACE"),
            ("snapshotter", "CONTAINERD_SNAPSHOTTER"),
        )
    }
    if options.containerd is None:
        for key in chosen:
            if getattr(options, f"containerd_{key}", None) is not None:
                raise UsageError(
                    f"--containerd-{key} says something about a containerd: name it by --containerd"
                )
        return None
    # Only here: it takes a moment to import.
    from exporter.remotes.containerd import ContainerdConfig

    try:
        return ContainerdConfig(
            address=options.containerd, **{key: value for key, value in chosen.items() if value}
        )
    except InvalidArgumentError as error:
        raise UsageError(f"--{(error.field or '').replace('_', '-')}: {error.message}") from error
