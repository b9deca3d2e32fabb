"""The types of this process: built in, installed, and from the files of ``--exporter-module``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from exporter.cli.failures import UsageError
from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.exporters.registry import Registry, default_registry


def registry_with(files: Iterable[Path]) -> Registry:
    """The registry of all types, including the types in these files.

    Raises:
        UsageError: a file cannot be used.
    """
    try:
        return default_registry(files)
    except (InvalidArgumentError, NotFoundError) as error:
        raise UsageError(f"--exporter-module: {error.message}") from error
