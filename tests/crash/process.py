"""Commands in processes forked from this one, which has loaded everything already."""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import exporter
from exporter.cli.main import main
from tests.crash import simulated
from tests.crash.points import Counter, Point, install

TIMEOUT = 120
"""Seconds that a command may take."""

_VARIABLES = ("PATH", "LANG", "LC_ALL")


@dataclass(frozen=True)
class Ended:
    """How a command ended. `status` is negative for a signal."""

    status: int
    text: str

    @property
    def was_killed(self) -> bool:
        return self.status == -signal.SIGKILL


def load_everything() -> None:
    """Import all modules, so that forked processes need not."""
    for module in pkgutil.walk_packages(exporter.__path__, "exporter."):
        if not module.name.endswith("__main__"):
            with suppress(ImportError):
                importlib.import_module(module.name)


def start(home: Path, words: Sequence[str], *, trace: Path, at: Point | None = None) -> int:
    """Start a command; gives the process's ID. What it says goes to ``trace.log``."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        _become(home, trace.with_suffix(".log"))
        install(Counter(at, trace))
        command, *arguments = [str(word) for word in words]
        status = simulated.build(arguments) if command == simulated.COMMAND else main([command, *arguments])
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def listens(pid: int, path: Path) -> bool:
    """Wait until a server listens at a Unix socket; gives False if its process has ended before."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
            client.connect(str(path))
            return True
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
        time.sleep(0.01)
    raise AssertionError(f"no server listens at {path}")


def end(pid: int, trace: Path) -> Ended:
    """Wait for the end of a process."""
    _, status = os.waitpid(pid, 0)
    return Ended(os.waitstatus_to_exitcode(status), trace.with_suffix(".log").read_text(errors="replace"))


def run(home: Path, words: Sequence[str], *, trace: Path, at: Point | None = None) -> Ended:
    """Run a command."""
    return end(start(home, words, trace=trace, at=at), trace)


def _become(home: Path, log: Path) -> None:
    """Run as a user who has only an empty home directory."""
    temporary = home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    kept = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    os.environ.clear()
    os.environ.update(kept | {"HOME": str(home), "TMPDIR": str(temporary)})
    tempfile.tempdir = None
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    signal.alarm(TIMEOUT)
