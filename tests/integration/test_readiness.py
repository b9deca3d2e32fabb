"""How `serve` and `proxy` tell that they are ready, and what they listen on, in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.cli_process import PATIENCE, command, environment, run, wait_for
from tests.integration.test_proxy import simulator
from tests.peers import require


@pytest.fixture
def home() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="bke-", dir="/tmp"))  # the path of a socket has to be short
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def started(
    home: Path,
    *words: str,
    before: tuple[str, ...] = (),
    variables: dict[str, str] | None = None,
    fd: int = -1,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command, which must exit with status 0 after SIGTERM."""
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [*before, *command(*words)],
            env={**environment(home), **(variables or {})},
            stderr=log,
            pass_fds=() if fd < 0 else (fd,),
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, (home / "log").read_text()
    finally:
        process.kill()
        process.wait()


def words_for(name: str, home: Path) -> list[str]:
    peer = ["--buildkitd", f"unix://{home}/none.sock"] if name == "proxy" else []
    return [name, *peer, "--root", str(home / "root")]


@pytest.mark.parametrize("name", ["serve", "proxy"])
def test_the_ready_descriptor_gets_the_addresses(home: Path, name: str) -> None:
    reader, writer = os.pipe()
    addresses = ("--addr", f"unix://{home}/s", "--addr", "tcp://127.0.0.1:0")
    with started(home, *words_for(name, home), *addresses, "--ready-fd", str(writer), fd=writer):
        os.close(writer)
        with os.fdopen(reader) as file:
            first, second = file.read().splitlines()
        assert first == f"unix://{home}/s"
        host, _, port = second.removeprefix("tcp://").rpartition(":")
        for family, address in ((socket.AF_UNIX, f"{home}/s"), (socket.AF_INET, (host, int(port)))):
            with socket.socket(family) as client:
                client.connect(address)


@pytest.mark.parametrize("name", ["serve", "proxy"])
def test_systemd_is_notified_of_start_and_stop(home: Path, name: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{home}/notify")
        manager.settimeout(PATIENCE)
        variables = {"NOTIFY_SOCKET": f"{home}/notify"}
        with started(home, *words_for(name, home), "--addr", f"unix://{home}/s", variables=variables):
            assert manager.recv(4096).decode() == f"READY=1\nSTATUS=listening on unix://{home}/s"
        assert manager.recv(4096).decode().startswith("STOPPING=1\nSTATUS=waiting for 0 running ")


@pytest.mark.parametrize("name", ["serve", "proxy"])
def test_sockets_of_systemd(home: Path, name: str) -> None:
    activate = require("systemd-socket-activate", "systemd")
    with simulator(home / "daemon") as daemon:
        words = [name, "--addr", "fd://", "--root", str(home / "root")]
        words += ["--buildkitd", daemon] if name == "proxy" else []
        # It passes on the given variables, and starts the command when a client connects.
        kept = [f"--setenv={key}={value}" for key, value in environment(home).items()]
        before = (activate, f"--listen={home}/s", *kept)
        with started(home, *words, before=before):
            wait_for((home / "s").exists)
            done = run(home, "wait", "--addr", f"unix://{home}/s", "--timeout", "30")
            assert (done.status, done.err) == (0, "")
            kind = "a BuildKit daemon" if name == "proxy" else "a plugin server of buildkit-exporter"
            assert done.out.decode().startswith(kind)
        assert (home / "s").exists(), "it is systemd's"


def test_wait_waits_for_the_daemon_of_a_proxy(home: Path) -> None:
    words = ["proxy", "--buildkitd", f"unix://{home}/daemon/d.sock", "--root", str(home / "root")]
    with started(home, *words, "--addr", f"unix://{home}/s") as process:
        wait_for((home / "s").exists, process)
        done = run(home, "wait", "--addr", f"unix://{home}/s", "--timeout", "0.5")
        assert done.status == 1
        assert done.err == (
            f"error: unix://{home}/s is not ready after 0.5 s: cannot reach buildkitd at unix://{home}"
            "/daemon/d.sock: there is no such socket: is it running, and does it listen there?\n"
        )
        with simulator(home / "daemon"):
            done = run(home, "wait", "--addr", f"unix://{home}/s")
            assert (done.status, done.err) == (0, "")


def test_a_proxy_serves_health_and_metrics(home: Path) -> None:
    words = ["proxy", "--buildkitd", f"unix://{home}/daemon/d.sock", "--root", str(home / "root")]
    watching = ("--metrics-addr", "127.0.0.1:0", "--log-format", "json", "--addr", f"unix://{home}/s")
    with started(home, *words, *watching) as process:
        wait_for((home / "s").exists, process)
        wait_for(lambda: "cannot reach buildkitd" in (home / "log").read_text(), process)
        lines = [json.loads(line) for line in (home / "log").read_text().splitlines()]
        [url] = [line["msg"].removeprefix("metrics on ") for line in lines if "metrics on" in line["msg"]]
        assert get(url.replace("/metrics", "/healthz")) == (200, "ok\n")
        status, reason = get(url.replace("/metrics", "/readyz"))
        assert status == 503
        assert reason.startswith(f"cannot reach buildkitd at unix://{home}/daemon/d.sock: there is no such")
        for _ in range(4):  # each failure makes gRPC pause for longer before it connects again
            get(url.replace("/metrics", "/readyz"))
        with simulator(home / "daemon"):
            assert get(url.replace("/metrics", "/readyz")) == (200, "ok\n")
            assert run(home, "wait", "--addr", f"unix://{home}/s").status == 0
            status, shown = get(url)
        assert status == 200
        assert 'buildkit_exporter_proxy_bytes_total{direction="to_clients"}' in shown
        assert "buildkit_exporter_proxy_builds_in_flight 0.0" in shown


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
