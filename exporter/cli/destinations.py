"""Whether files can be written where somebody wants them, found out before there is anything to write."""

from __future__ import annotations

import os
from pathlib import Path

from exporter.cli.failures import UsageError


def check_file(option: str, path: Path | None) -> None:
    """Refuse a file that an option names and that cannot be written. Blocks.

    What shows only later, such as a full disk, is an error then.

    Args:
        option: Its name, such as ``--metadata-file``.
        path: The file; None if the option was not given.

    Raises:
        UsageError: it cannot be written.
    """
    if path is not None and (problem := problem_of_file(path)):
        raise UsageError(f"{option}: {path} cannot be written: {problem}")


def problem_of_file(path: Path) -> str:
    """Why a file cannot be written; empty if it can. It may be there already. Blocks."""
    try:
        target = path.resolve()
        if target.is_dir():
            return "it is a directory"
        if target.exists() and not target.is_file():
            return ""  # a device or a pipe
        # Files are made beside their destination and moved there when they are complete.
        return _problem_of_parent(target.parent)
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError
        return getattr(error, "strerror", None) or str(error)


def problem_of_directory(path: Path, *, is_layout: bool = False) -> str:
    """Why nothing can be written into a directory, made if there is none; empty if it can. Blocks.

    Args:
        path: The directory.
        is_layout: Whether it is to be an OCI layout, which shares no directory with anything else.
    """
    try:
        target = path.resolve()
        if is_layout and target.is_dir() and not _can_be_layout(target):
            return "it is neither empty nor an OCI image layout (it has no file oci-layout)"
        while not target.exists():
            target = target.parent
        return _problem_of_parent(target)
    except (OSError, RuntimeError) as error:
        return getattr(error, "strerror", None) or str(error)


def _can_be_layout(directory: Path) -> bool:
    from exporter.content.layout import STAGING_NAME  # only here: most commands do without stores

    found = {path.name for path in directory.iterdir()}
    return "oci-layout" in found or not found - {STAGING_NAME}


def _problem_of_parent(directory: Path) -> str:
    if not directory.exists():
        return f"there is no directory {directory}"
    if not directory.is_dir():
        return f"{directory} is not a directory"
    if not os.access(directory, os.W_OK | os.X_OK):
        return f"you may not write to the directory {directory}"
    return ""
