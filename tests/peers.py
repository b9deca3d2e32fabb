"""Other programs that tests compare us with."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def require(program: str, package: str) -> str:
    """Find a program, or skip the test that needs it; where CI is set, its absence is a failure.

    Args:
        program: Its name.
        package: The Debian package that has it.

    Returns:
        Its path.
    """
    # Daemons are often where only root looks.
    path = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    if path is None:
        _do_without(f"{program} is not installed: apt install {package}")
    return path


def require_root(program: str) -> None:
    """Skip the test that needs a program which only root can run; where CI is set, that is a failure."""
    if os.geteuid() != 0:
        _do_without(f"{program} needs root")


def _do_without(message: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
