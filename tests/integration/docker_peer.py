"""A real dockerd for the tests, separate from the machine's."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from exporter.remotes.docker_engine import EngineAddress
from tests.peers import require, require_root

_STARTING_SECONDS = 60
_STOPPING_SECONDS = 30


class Dockerd:
    """A running dockerd. Its containerd is its own, too."""

    def __init__(self, directory: Path, process: subprocess.Popen[bytes]) -> None:
        self.socket = directory / "d.sock"
        self._directory = directory
        self._process = process

    @property
    def address(self) -> EngineAddress:
        return EngineAddress(socket=self.socket)

    def docker(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Run docker's own client against it."""
        docker = require("docker", "docker.io")
        command = [docker, "--host", f"unix://{self.socket}", *arguments]
        environment = {**os.environ, "DOCKER_CONFIG": str(self._directory / "client")}
        done = subprocess.run(command, input=stdin, capture_output=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def images(self) -> list[str]:
        """Names and IDs of all images."""
        form = "{{.Repository}}:{{.Tag}} {{.ID}}"
        return sorted(self.docker("image", "ls", "--all", "--no-trunc", "--format", form).splitlines())

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop it and all its children."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOPPING_SECONDS)
            self.kill()
        # Left behind by a dockerd that was killed: its containerd, and a mount.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pid = int((self._directory / "exec" / "containerd" / "containerd.pid").read_text())
            if str(self._directory).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        umount = ["umount", "--recursive", str(self._directory / "data")]
        subprocess.run(umount, capture_output=True, check=False)


@contextlib.contextmanager
def dockerd() -> Iterator[Dockerd]:
    """Run a dockerd; it is gone, with its data, when the block ends."""
    program = require("dockerd", "docker.io")
    require("containerd", "containerd")
    require_root("dockerd")
    # Not pytest's directory: the path of a socket has room for some hundred bytes only.
    directory = Path(tempfile.mkdtemp(prefix="dockerd-"))
    command = [
        program,
        f"--data-root={directory / 'data'}",
        f"--exec-root={directory / 'exec'}",
        f"--pidfile={directory / 'pid'}",
        f"--host=unix://{directory / 'd.sock'}",
        "--bridge=none",
        "--iptables=false",
        "--ip-masq=false",
    ]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    daemon = Dockerd(directory, process)
    try:
        deadline = time.monotonic() + _STARTING_SECONDS
        while not daemon.socket.exists() or not _answers(daemon):
            assert process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < deadline, (directory / "log").read_text()
            time.sleep(0.1)
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _answers(daemon: Dockerd) -> bool:
    try:
        daemon.docker("version")
    except AssertionError:
        return False
    return True
