from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.errors import InvalidArgumentError
from exporter.rpc.address import TCPAddress, UnixAddress
from exporter.server.notify import Supervisor

ADDRESSES = (UnixAddress("/run/x.sock"), TCPAddress("127.0.0.1", 1234))


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's socket, and the variable that names it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(10)
        if request.param == "path":
            receiver.bind(str(tmp_path / "notify"))
            yield receiver, str(tmp_path / "notify")
        else:
            receiver.bind(f"\0buildkit-exporter-test-{os.getpid()}")
            yield receiver, f"@buildkit-exporter-test-{os.getpid()}"


def test_each_change_is_one_datagram(manager: tuple[socket.socket, str]) -> None:
    receiver, name = manager
    environ = {"NOTIFY_SOCKET": name, "PATH": "/bin"}
    supervisor = Supervisor(environ=environ)
    assert environ == {"PATH": "/bin"}, "programs that we start do not get it"
    supervisor.ready(ADDRESSES)
    supervisor.status("one\ntwo")
    supervisor.stopping("waiting for 2 running builds")
    assert [receiver.recv(1 << 10).decode() for _ in range(3)] == [
        "READY=1\nSTATUS=listening on unix:///run/x.sock, tcp://127.0.0.1:1234",
        "STATUS=one two",
        "STOPPING=1\nSTATUS=waiting for 2 running builds",
    ]


@pytest.mark.parametrize("name", ["", "/does/not/exist", "relative", "vsock:2:1234"])
def test_a_missing_listener_is_not_a_failure(name: str, caplog: pytest.LogCaptureFixture) -> None:
    Supervisor(environ={"NOTIFY_SOCKET": name}).ready(ADDRESSES)
    assert len(caplog.messages) == (name == "/does/not/exist")


def test_a_descriptor_gets_the_addresses_and_is_closed() -> None:
    reader, writer = os.pipe()
    supervisor = Supervisor(writer, environ={})
    assert not os.get_inheritable(writer)
    supervisor.ready(ADDRESSES)
    with pytest.raises(OSError):
        os.fstat(writer)
    with os.fdopen(reader, "rb") as file:
        assert file.read() == b"unix:///run/x.sock\ntcp://127.0.0.1:1234\n"


def test_a_closed_reader_is_not_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    supervisor = Supervisor(writer, environ={})
    supervisor.ready(ADDRESSES)
    assert caplog.messages == [f"cannot notify readiness on descriptor {writer}: Broken pipe"]


def test_a_descriptor_has_to_be_open_for_writing() -> None:
    with pytest.raises(InvalidArgumentError, match="descriptor 900 cannot be written to: Bad file") as caught:
        Supervisor(900, environ={})
    assert caught.value.field == "ready_fd"
    reader, writer = os.pipe()
    try:
        with pytest.raises(InvalidArgumentError, match=f"descriptor {reader} cannot be written to"):
            Supervisor(reader, environ={})
    finally:
        os.close(reader)
        os.close(writer)


def test_a_receiver_that_does_not_read_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        supervisor = Supervisor(environ={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(1000):  # more than a socket holds
            supervisor.status("busy")


@pytest.mark.parametrize("descriptor", [1, 2])
def test_a_standard_descriptor_stays_taken(descriptor: int) -> None:
    """Otherwise the next file that is opened would get what is meant for it."""
    program = (
        "import os, sys\n"
        "from exporter.server.notify import Supervisor\n"
        f"supervisor = Supervisor({descriptor}, environ={{}})\n"
        f"assert os.get_inheritable({descriptor})\n"
        "supervisor.ready(['somewhere'])\n"
        f"sys.exit(0 if os.path.samefile('/proc/self/fd/{descriptor}', os.devnull) else 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"somewhere\n")
