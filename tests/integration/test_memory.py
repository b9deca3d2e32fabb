"""Memory does not grow with the layers that are exported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "scripts" / "bench-memory"


@pytest.mark.timeout(300)
def test_layers_larger_than_memory_are_exported(tmp_path: Path) -> None:
    words = ["--size", "256", "--limit", "200", "--only", "by a server", "--directory", str(tmp_path)]
    done = subprocess.run([sys.executable, BENCH, *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("(server)") == 2
