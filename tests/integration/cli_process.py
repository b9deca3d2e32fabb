"""The command line in processes of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from exporter.exporters.registry import ENTRY_POINT_GROUP
from tests.integration.cli_plugins import PLUGINS

_REPOSITORY = Path(__file__).parents[2]

PATIENCE = 60.0
"""Seconds until a test that waits for something gives up."""


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    status: int
    out: bytes
    err: str


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "exporter.cli", *words]


def environment(home: Path) -> dict[str, str]:
    """Of a user who has set nothing, and has installed `PLUGINS`."""
    installed = home / "site"
    record = installed / "cli_plugins-1.0.dist-info"
    record.mkdir(parents=True, exist_ok=True)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: cli-plugins\nVersion: 1.0\n")
    entries = [f"{kind.type} = {kind.__module__}:{kind.__name__}" for kind in PLUGINS]
    (record / "entry_points.txt").write_text("\n".join([f"[{ENTRY_POINT_GROUP}]", *entries]) + "\n")
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(_REPOSITORY), str(installed)]),
        "HOME": str(home),
        "TMPDIR": str(home),
        "LC_ALL": "C.UTF-8",
    }


def start(home: Path, *words: str, variables: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Run a command in the background, with more environment variables."""
    return subprocess.Popen(
        command(*words),
        env={**environment(home), **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(
    home: Path, *words: str, variables: Mapping[str, str] | None = None, stdin: bytes | None = None
) -> Result:
    """Run a command to its end, with more environment variables."""
    done = subprocess.run(
        command(*words),
        input=stdin,
        env={**environment(home), **(variables or {})},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr.decode())


@contextmanager
def server(home: Path, *words: str, dies: bool = False) -> Iterator[str]:
    """Run a server; yields its address. It must exit after SIGTERM, unless it is to be killed."""
    path = home / "exporter.sock"
    line = command("serve", "--addr", f"unix://{path}", "--root", str(home / "server"), *words)
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(line, env=environment(home), stderr=log)
    try:
        wait_for_listener(process, path)
        yield f"unix://{path}"
    finally:
        process.send_signal(signal.SIGKILL if dies else signal.SIGTERM)
        try:
            status = process.wait(PATIENCE)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
    assert status == (-signal.SIGKILL if dies else 0), (home / "server.log").read_text()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        assert process is None or process.poll() is None, (
            process.stderr.read().decode() if process.stderr else ""
        )
        time.sleep(0.02)


def wait_for_listener(process: subprocess.Popen[bytes], path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
            client.connect(str(path))
            return
        time.sleep(0.02)
    raise AssertionError(f"no server listens at {path}")
