"""A thin sample of ``scripts/crash``: each destination, killed at a few of its points."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(600)

_REPOSITORY = Path(__file__).parents[2]


def test_a_sample_of_kills_leaves_nothing_that_a_later_run_does_not_remove() -> None:
    # In a process of its own: it forks, and pytest has threads.
    command = [sys.executable, "-m", "tests.crash", "--sample", "2", "--no-peers"]
    done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
