"""Early checks of whether a destination is writable, before the work begins."""

from __future__ import annotations

import os
from pathlib import Path

from exporter.cli.failures import UsageError


def check_file(option: str, path: Path | None) -> None:
    """Reject an option that names a file which cannot be written. Blocks.

    Problems that only appear later, such as a full disk, are reported when they occur.

    Args:
        option: The name of the option, such as ``--metadata-file``.
        path: The file; None if the option was not given.

    Raises:
        UsageError: the file cannot be written.
    """
    if path is not None and (problem := problem_of_file(path)):
        raise UsageError(f"{option}: {path} cannot be written: {problem}")


def check_directory(option: str, path: Path | None) -> None:
    """Reject an option that names a directory which cannot be written to, nor created. Blocks.

    Args:
        option: The name of the option, such as ``--save-source``.
        path: The directory; None if the option was not given.

    Raises:
        UsageError: the directory cannot be used.
    """
    if path is not None and (problem := problem_of_directory(path)):
        raise UsageError(f"{option}: {path} cannot be used: {problem}")


def problem_of_file(path: Path) -> str:
    """Why a file cannot be written; empty if it can. It may already exist. Blocks."""
    try:
        target = path.resolve()
        if target.is_dir():
            return "it is a directory"
        if target.exists() and not target.is_file():
            return ""  # a device or a pipe
        # Files are created next to their destination, and renamed when they are complete.
        return _problem_of_parent(target.parent)
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError
        return getattr(error, "strerror", None) or str(error)


def problem_of_directory(path: Path, *, is_layout: bool = False) -> str:
    """Why a directory cannot be written to, or created; empty if it can. Blocks.

    Args:
        path: The directory.
        is_layout: Whether it will be an OCI layout, which does not share a directory with other files.
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
    from exporter.content.layout import STAGING_NAME  # imported late: most commands do not need stores

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
