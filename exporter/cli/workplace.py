"""Options for exports in this process: image stores, registries, limits."""

from __future__ import annotations

from dataclasses import fields

from exporter.cli.commands.base import Args
from exporter.cli.commands.shared import WorkplaceArgs
from exporter.cli.containerd import containerd_config
from exporter.cli.destinations import problem_of_directory
from exporter.cli.failures import UsageError
from exporter.cli.registries import registry_options
from exporter.engine.config import WorkplaceConfig
from exporter.engine.hooks import DEFAULT_TIMEOUT, Hooks
from exporter.errors import InvalidArgumentError
from exporter.layer.cache import DEFAULT_LIMIT
from exporter.layer.limits import MAX_CONTENT_BYTES

_OPTIONS = frozenset(field.name for field in fields(WorkplaceArgs)) - {field.name for field in fields(Args)}
_USERS = frozenset({"registry_config"})
"""Options that are about the user, wherever the work is done."""


def workplace_config(options: WorkplaceArgs) -> WorkplaceConfig:
    """Build the configuration from the options.

    Raises:
        UsageError: the value of an option is invalid.
    """
    if options.root is not None and (problem := problem_of_directory(options.root)):
        raise UsageError(f"--root: {options.root} cannot be used: {problem}")
    limit = options.layer_cache_bytes
    containerd, registries = containerd_config(options), registry_options(options)
    return WorkplaceConfig(
        root=options.root,
        containerd=containerd,
        registries=registries,
        layer_cache_bytes=DEFAULT_LIMIT if limit is None else limit,
        max_content_bytes=options.max_content_bytes or MAX_CONTENT_BYTES,
        hooks=_hooks(options),
    )


def _hooks(options: WorkplaceArgs) -> Hooks:
    timeout = DEFAULT_TIMEOUT if options.hook_timeout is None else options.hook_timeout
    try:
        return Hooks.parse(options.hook, timeout)
    except InvalidArgumentError as error:
        raise UsageError(f"--hook: {error.message}") from error


def refuse_workplace_options(options: WorkplaceArgs) -> None:
    """Reject these options when a server runs the export with its own configuration.

    Raises:
        UsageError: one of them was given.
    """
    for name in sorted(_OPTIONS - _USERS):
        if getattr(options, name) not in {None, ()}:
            raise UsageError(
                f"--{name.replace('_', '-')} is for exports in this process and cannot be combined "
                "with --addr: the server has its own"
            )
