"""Errors about the embedded store, for commands that read it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.errors import FailedPreconditionError


@contextmanager
def naming_store(root: Path) -> Iterator[None]:
    """Name the store in errors about access to it, and say how to choose a different one.

    Raises:
        FailedPreconditionError: instead of an `OSError` about the store's directory.
    """
    try:
        yield
    except (PermissionError, NotADirectoryError) as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise FailedPreconditionError(
            f"the image store in {root} cannot be used: {reason}; choose another one with --root"
        ) from error
