"""Options for containerd; they default to the environment variables of containerd's own tools."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from exporter.cli.commands.shared import ContainerdArgs
from exporter.cli.failures import UsageError
from exporter.errors import InvalidArgumentError

if TYPE_CHECKING:
    from exporter.remotes.containerd import ContainerdConfig


def containerd_config(options: ContainerdArgs) -> ContainerdConfig | None:
    """Return the containerd that the options name, if any.

    Raises:
        UsageError: an option is invalid, or is given without ``--containerd``.
    """
    named = {"namespace": options.containerd_namespace, "snapshotter": options.containerd_snapshotter}
    if options.containerd is None:
        for key, value in named.items():
            if value is not None:
                raise UsageError(f"--containerd-{key} needs --containerd, the address of the containerd")
        return None
    # Imported late, because it takes a moment.
    from exporter.remotes.containerd import ContainerdConfig

    chosen = {key: value or os.environ.get(f"CONTAINERD_{key.upper()}") for key, value in named.items()}
    try:
        return ContainerdConfig(
            address=options.containerd, **{key: value for key, value in chosen.items() if value}
        )
    except InvalidArgumentError as error:
        raise UsageError(f"--{(error.field or '').replace('_', '-')}: {error.message}") from error
