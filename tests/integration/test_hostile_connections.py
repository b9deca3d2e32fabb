"""Hostile peers of the proxy and of the plugin server: many connections, and messages that expand."""

from __future__ import annotations

import gzip
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from exporter.pb.buildkit.exporter.v1 import exporter_pb2
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.proxy.control import SOLVE_METHOD
from exporter.proxy.switch import SESSION_METHOD_NAME
from exporter.rpc.http2.frames import END_HEADERS, END_STREAM, PREFACE, FrameType, settings_frame
from tests.integration.cli_process import PATIENCE, command, environment, wait_for_listener
from tests.integration.hostile import (
    ASK,
    MIB,
    STALL,
    block,
    connected,
    daemon,
    forget_peak,
    frame,
    is_answered,
    literal,
    memory_of,
    read_until,
    request,
    send_message,
)
from tests.integration.proxied import proxy

pytestmark = pytest.mark.timeout(300)

FILES = 512
"""The limit of open files."""

LIST = "/buildkit.exporter.v1.ExporterService/ListExporters"
EXPORT = "/buildkit.exporter.v1.ExporterService/Export"

INVALID_ARGUMENT, RESOURCE_EXHAUSTED = b"\x0bgrpc-status\x013", b"\x0bgrpc-status\x018"


@dataclass(frozen=True)
class Victim:
    """A process under attack.

    Attributes:
        path: Its socket.
        process: Its ID.
        method: A method that it answers.
        stalled: A method that waits for more.
        parsed: A method whose request is parsed here.
        expanding: A request of it that is large only in memory.
    """

    path: str
    process: int
    method: str
    stalled: str
    parsed: str
    expanding: bytes

    def is_answering(self) -> bool:
        return is_answered(self.path, self.method)

    @contextmanager
    def measured(self, most: int) -> Iterator[None]:
        """Bound how much the memory may grow in the block."""
        before = forget_peak(self.process)
        yield
        more = memory_of(self.process, "VmHWM") - before
        print(f"{more / MIB:.0f} MiB more")
        assert more < most


@contextmanager
def _proxy(directory: Path) -> Iterator[Victim]:
    path = directory / "d.sock"
    number = control_pb2.SolveRequest.DESCRIPTOR.fields_by_name["Exporters"].number
    with daemon(str(path)), proxy(directory, f"unix://{path}", files=FILES) as running:
        yield Victim(
            running.address.removeprefix("unix://"),
            running.process.pid,
            ASK,
            STALL,
            SOLVE_METHOD,
            bytes((number << 3 | 2, 0)) * (7 * MIB),
        )


@contextmanager
def _server(directory: Path) -> Iterator[Victim]:
    path = directory / "s"
    line = command("serve", "--addr", f"unix://{path}", "--root", str(directory / "root"))
    limited = ["sh", "-c", f'ulimit -n {FILES} && exec "$@"', "sh", *line]
    number = exporter_pb2.ExportRequest.DESCRIPTOR.fields_by_name["attrs"].number
    with (directory / "log").open("wb") as log_file:
        process = subprocess.Popen(limited, env=environment(directory), stderr=log_file)
    try:
        wait_for_listener(process, path)
        message = bytes((number << 3 | 2, 0)) * (7 * MIB)
        yield Victim(str(path), process.pid, LIST, EXPORT, EXPORT, message)
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in (directory / "log").read_text()


@pytest.fixture(scope="module", params=[_proxy, _server], ids=["proxy", "server"])
def victim(request: pytest.FixtureRequest) -> Iterator[Victim]:
    directory = Path(tempfile.mkdtemp(prefix="bke-", dir="/tmp"))  # the path of a socket has to be short
    try:
        with request.param(directory) as running:
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def crowd(victim: Victim, said: bytes) -> Iterator[None]:
    """Twice as many connections as there may be open files."""
    with ExitStack() as stack:
        for _ in range(2 * FILES):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.connect(victim.path)  # waits while the queue is full
            connection.settimeout(PATIENCE)
            with suppress(ConnectionError):  # it has been cut off
                connection.sendall(said)
        yield


@pytest.mark.parametrize(
    "said",
    [
        b"",
        PREFACE[:3],
        PREFACE,
        PREFACE + settings_frame({}),
    ],
    ids=["nothing", "a part of the preface", "the preface", "settings"],
)
def test_connections_without_calls_keep_nobody_out(victim: Victim, said: bytes) -> None:
    with victim.measured(64 * MIB), crowd(victim, said):
        assert victim.is_answering()


def test_connections_with_calls_leave_those_alone_that_were_there_before(victim: Victim) -> None:
    with connected(victim.path) as early:
        early.sendall(request(1, victim.stalled))
        assert victim.is_answering()
        with crowd(victim, PREFACE + settings_frame({}) + request(1, victim.stalled)):
            early.sendall(request(3, victim.method) + frame(FrameType.DATA, END_STREAM, 3, bytes(5)))
            assert b"grpc-status" in read_until(early, b"grpc-status")
    assert victim.is_answering()


def test_a_message_that_expands_when_it_is_parsed_is_refused(victim: Victim) -> None:
    with victim.measured(3 * len(victim.expanding) + 64 * MIB), connected(victim.path) as connection:
        connection.sendall(request(1, victim.parsed))
        assert RESOURCE_EXHAUSTED in send_message(connection, 1, victim.expanding)
        assert victim.is_answering()


def test_a_compressed_message_is_not_decompressed(victim: Victim) -> None:
    bomb = gzip.compress(bytes(256 * MIB), 1)
    with victim.measured(32 * MIB), connected(victim.path) as connection:
        headers = block(victim.parsed) + literal(b"grpc-encoding", b"gzip")
        connection.sendall(frame(FrameType.HEADERS, END_HEADERS, 1, headers))
        assert INVALID_ARGUMENT in send_message(connection, 1, bomb, compressed=True)
        assert victim.is_answering()


def test_sessions_that_are_opened_and_do_nothing(victim: Victim) -> None:
    with victim.measured(160 * MIB), connected(victim.path) as connection:
        ids = (literal(b"x-docker-expose-session-uuid", b"session-%d" % n) for n in range(2048))
        for n, session in enumerate(ids):
            headers = block(SESSION_METHOD_NAME) + session
            connection.sendall(frame(FrameType.HEADERS, END_HEADERS, 1 + 2 * n, headers))
        assert victim.is_answering()
