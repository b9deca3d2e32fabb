"""Options about a containerd, with the environment variables that containerd's own tools know."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from exporter.cli.commands.shared import ContainerdArgs
from exporter.cli.failures import UsageError
from exporter.errors import InvalidArgumentError

if TYPE_CHECKING:
    from exporter.remotes.containerd import ContainerdConfig


def containerd_config(options: ContainerdArgs) -> ContainerdConfig | None:
    """The containerd that the options name; None if they name none.

    Raises:
        UsageError: they cannot be used.
    """
    named = {"namespace": options.containerd_namespace, "snapshotter": options.containerd_snapshotter}
    if options.containerd is None:
        for key, value in named.items():
            if value is not None:
                raise UsageError(f"--containerd-{key} needs --containerd, the address of the containerd")
        return None
    # Only here: it takes a moment to import.
    from exporter.remotes.containerd import ContainerdConfig

    chosen = {key: value or os.environ.get(f"CONTAINERD_{key.upper()}") for key, value in named.items()}
    try:
        return ContainerdConfig(
            address=options.containerd, **{key: value for key, value in chosen.items() if value}
        )
    except InvalidArgumentError as error:
        raise UsageError(f"--{(error.field or '').replace('_', '-')}: {error.message}") from error
