"""The embedded store, as commands that look into it name it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.errors import FailedPreconditionError


@contextmanager
def naming_store(root: Path) -> Iterator[None]:
    """Say which store cannot be used, and how to use another one.

    Raises:
        FailedPreconditionError: in place of an error of the operating system about the store's directory.
    """
    try:
        yield
    except (PermissionError, NotADirectoryError) as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise FailedPreconditionError(
            f"the image store in {root} cannot be used: {reason}; choose another one with --root"
        ) from error
