from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from exporter.cli.commands.summaries import SUMMARIES

REPOSITORY = Path(__file__).parents[3]


def test_the_page_about_the_command_line_is_fresh() -> None:
    script = REPOSITORY / "scripts" / "cli-docs"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_quotes_the_help_of_every_command() -> None:
    page = (REPOSITORY / "docs" / "cli.md").read_text("utf-8")
    assert {"serve", "proxy", "build", "export", "exporters", "inspect", "verify"} <= set(SUMMARIES)
    assert [name for name in SUMMARIES if f"$ buildkit-exporter {name} --help\n" not in page] == []


def test_help_does_not_depend_on_the_terminal() -> None:
    def text(columns: str) -> bytes:
        command = [sys.executable, "-m", "exporter.cli", "export", "--help"]
        return subprocess.run(command, env={"COLUMNS": columns}, stdout=subprocess.PIPE, check=True).stdout

    assert text("40") == text("200")
