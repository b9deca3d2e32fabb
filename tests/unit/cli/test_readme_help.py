from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from exporter.cli.parser import build_parser

REPOSITORY = Path(__file__).parents[3]


def test_the_help_texts_in_the_readme_are_fresh() -> None:
    script = REPOSITORY / "scripts" / "readme-help"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_readme_quotes_the_help_of_every_command() -> None:
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    _, commands = build_parser().format_help().split("COMMAND\n")
    names = [line.split()[0] for line in commands.split("\n\n")[0].splitlines()]
    assert {"serve", "export", "exporters", "inspect", "verify"} <= set(names)
    assert [name for name in names if f"$ buildkit-exporter {name} --help\n" not in readme] == []


def test_help_does_not_depend_on_the_terminal() -> None:
    def text(columns: str) -> bytes:
        command = [sys.executable, "-m", "exporter.cli", "export", "--help"]
        return subprocess.run(command, env={"COLUMNS": columns}, stdout=subprocess.PIPE, check=True).stdout

    assert text("40") == text("200")
