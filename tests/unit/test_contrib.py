"""Files for operators and for daemons: systemd units, a plugin for buildkitd."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.command import parse_args
from tests.peers import require

SYSTEMD = Path(__file__).parents[2] / "contrib" / "systemd"
SERVICES = sorted(SYSTEMD.glob("*.service"))
PLUGIN = SYSTEMD.parent / "buildkitd" / "plugin.go"


def command_of(service: Path) -> list[str]:
    [line] = [line for line in service.read_text().splitlines() if line.startswith("ExecStart=")]
    return shlex.split(line.removeprefix("ExecStart="))


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_services_start_existing_commands(service: Path) -> None:
    program, name, *words = command_of(service)
    assert program == "/usr/local/bin/buildkit-exporter"
    args = parse_args(name, *words)
    assert getattr(args, "addr") == ("fd://",)  # noqa: B009 - of either command
    assert service.with_suffix(".socket").exists(), "fd:// needs a socket"


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    analyze = require("systemd-analyze", "systemd")
    program = shutil.which("true")
    assert program is not None
    for path in SYSTEMD.iterdir():
        text = path.read_text().replace("/usr/local/bin/buildkit-exporter", program)
        (tmp_path / path.name).write_text(text)
    units = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(units) == 4


def test_the_plugin_for_buildkitd_is_formatted() -> None:
    """Also finds syntax errors. It is compiled by hand, in a checkout of BuildKit."""
    gofmt = require("gofmt", "golang-go")
    done = subprocess.run([gofmt, "-l", str(PLUGIN)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_readme_of_the_plugin_counts_its_lines() -> None:
    lines = [line.strip() for line in PLUGIN.read_text().splitlines()]
    code = [line for line in lines if line and not line.startswith("//")]
    assert f"it has {len(code)} lines of code" in (PLUGIN.parent / "README.md").read_text()
