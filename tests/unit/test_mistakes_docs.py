"""docs/mistakes.md, which a script generates from the table of mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.mistakes import read_table

REPOSITORY = Path(__file__).parents[2]


def test_the_page_about_mistakes_is_fresh() -> None:
    script = REPOSITORY / "scripts" / "mistakes-docs"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_page_has_every_message() -> None:
    page = (REPOSITORY / "docs" / "mistakes.md").read_text("utf-8")
    assert [mistake.name for mistake in read_table() if mistake.stderr not in page] == []
