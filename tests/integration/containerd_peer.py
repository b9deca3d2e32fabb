"""A real containerd for the tests, separate from the machine's."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from exporter.remotes.containerd import ContainerdConfig
from tests.peers import require, require_root

_STARTING_SECONDS = 30

_CONFIG = """
version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{directory}/s"
# The garbage collector runs when a test wants it to, and not soon after the start, nor after so many changes.
[plugins."io.containerd.gc.v1.scheduler"]
  startup_delay = "1h"
  mutation_threshold = 0
  deletion_threshold = 0
"""


class ContainerdPeer:
    """A containerd that can be killed and started again; its data stays."""

    def __init__(self, directory: Path) -> None:
        self.socket = str(directory / "s")
        self._program = require("containerd", "containerd")
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        config = directory / "config.toml"
        config.write_text(_CONFIG.format(directory=directory))

    def config(self, namespace: str, snapshotter: str = "overlayfs") -> ContainerdConfig:
        return ContainerdConfig(address=self.socket, namespace=namespace, snapshotter=snapshotter)

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with (self._directory / "log").open("ab") as log:
            command = [self._program, "--config", str(self._directory / "config.toml")]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + _STARTING_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
                client.connect(self.socket)
                return
            time.sleep(0.02)
        raise AssertionError((self._directory / "log").read_text())

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def ctr(self, namespace: str, *words: str) -> str:
        """Run containerd's own client against it."""
        command = [require("ctr", "containerd"), "--address", self.socket, "--namespace", namespace, *words]
        done = subprocess.run(command, capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rows(self, namespace: str, *words: str) -> list[str]:
        """What `ctr` lists, one line for each thing, without the heading."""
        return self.ctr(namespace, *words).splitlines()[1:]

    def keys(self, namespace: str, *words: str) -> set[str]:
        """The first column of such a list."""
        return {row.split()[0] for row in self.rows(namespace, *words)}

    def labels(self, namespace: str, digest: str) -> dict[str, str]:
        """The labels of a blob."""
        rows = self.rows(namespace, "content", "ls")
        [text] = [row.split("\t")[-1] for row in rows if row.startswith(digest)]
        return dict(pair.split("=", 1) for pair in text.split(",")) if text != "-" else {}

    def collect(self, namespace: str) -> None:
        """Have the garbage collector run, and wait until it has."""
        self.ctr(namespace, "leases", "create", "--id", "collect")
        self.ctr(namespace, "leases", "delete", "--sync", "collect")


@contextlib.contextmanager
def containerd() -> Iterator[ContainerdPeer]:
    """Run a containerd; it is gone, with its data, when the block ends."""
    require_root("containerd")
    # Not pytest's directory: the path of a socket has room for some hundred bytes only.
    directory = Path(tempfile.mkdtemp(prefix="containerd-"))
    peer = ContainerdPeer(directory)
    try:
        peer.start()
        yield peer
    finally:
        peer.kill()
        shutil.rmtree(directory, ignore_errors=True)
