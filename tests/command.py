"""The command line, for tests."""

from __future__ import annotations

from typing import Any

from exporter.cli.parser import parse


def parse_args(*words: str) -> Any:
    """What a command is given; of the type that its declaration names."""
    return parse(words).args
