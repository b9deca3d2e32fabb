"""What a group of measurements is told, and how it says that a peer is missing."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path


class MissingPeerError(Exception):
    """A program that is not installed, or a right that we do not have; the text says which."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to measure.

    Attributes:
        directory: An empty directory for files.
        quick: Whether to be done soon: fewer rounds, smaller sizes.
    """

    directory: Path
    quick: bool

    def pick(self, full: int, quick: int) -> int:
        """One of two numbers, by `quick`."""
        return quick if self.quick else full


def program(name: str) -> str:
    """The path of a program; the environment variable of that name in capitals overrides ``PATH``.

    Raises:
        MissingPeerError: it is not installed.
    """
    found = shutil.which(os.environ.get(name.upper().replace("-", "_")) or name)
    if found is None:
        raise MissingPeerError(f"{name} is not in PATH")
    return found
