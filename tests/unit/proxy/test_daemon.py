"""How the proxy reaches its daemon, and what it finds out about it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from exporter.daemon.connection import open_channel
from exporter.errors import UnavailableError
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.pb.moby.buildkit.v1.types import worker_pb2
from exporter.proxy import daemon as module
from exporter.proxy.daemon import Daemon
from exporter.rpc.address import UnixAddress
from exporter.rpc.diagnosis import Endpoint
from exporter.rpc.http2.sockets import Scheduler
from tests.integration.simulator.daemon import SimulatedDaemon
from tests.unit.proxy.running import PATIENCE, dialler, simulated

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


class Versioned(SimulatedDaemon):
    def __init__(self, version: str) -> None:
        super().__init__()
        self.version = version

    async def Info(self, request: Any, context: Any) -> control_pb2.InfoResponse:  # noqa: N802
        return control_pb2.InfoResponse(buildkitVersion=worker_pb2.BuildkitVersion(version=self.version))


@asynccontextmanager
async def seen(path: Path) -> AsyncIterator[Daemon]:
    async with open_channel(f"unix://{path}") as channel:
        yield Daemon(dialler(path), Endpoint(UnixAddress(str(path))), channel)


@pytest.mark.parametrize(
    ("version", "is_too_old"),
    [
        ("v0.22.0", False),
        ("v0.23.1", False),
        ("v1.0.0", False),
        ("v0.21.9", True),
        ("0.9.0", True),
        ("v0.0.0+unknown", False),
        ("from-a-branch", False),
    ],
)
async def test_the_version_is_told_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, version: str, is_too_old: bool
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "d"
    async with simulated(path, Versioned(version)), seen(path) as daemon:
        assert await daemon.check() == version
        await daemon.introduce()
    told = [record.message for record in caplog.records if record.name == module.__name__]
    assert told[0] == f"buildkitd {version} answers at unix://{path}"
    assert (
        told[1:]
        == [f"buildkitd at unix://{path} is too old for exports of ours, which need v0.22 or newer"][
            : int(is_too_old)
        ]
    )


class Wordless(SimulatedDaemon):
    """Before v0.11, there was no version."""

    async def Info(self, request: Any, context: Any) -> control_pb2.InfoResponse:  # noqa: N802
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown method Info")
        raise AssertionError


async def test_a_daemon_without_a_version_is_too_old(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "d"
    caplog.set_level(logging.WARNING, module.__name__)
    async with simulated(path, Wordless()), seen(path) as daemon:
        await daemon.introduce()
    assert [record.message for record in caplog.records if record.name == module.__name__] == [
        f"buildkitd at unix://{path} is too old for exports of ours, which need v0.22 or newer"
    ]


async def test_another_server_is_not_taken_for_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "d"
    server = grpc.aio.server()
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    try:
        async with seen(path) as daemon:
            with pytest.raises(UnavailableError, match=f"unix://{path}"):
                await daemon.check()
    finally:
        await server.stop(None)


class Failing(SimulatedDaemon):
    """Answers, but badly."""

    async def Info(self, request: Any, context: Any) -> control_pb2.InfoResponse:  # noqa: N802
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not for you")
        raise AssertionError


async def test_an_error_of_the_daemon_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "d"
    async with simulated(path, Failing()), seen(path) as daemon:
        with pytest.raises(UnavailableError, match=f"cannot reach buildkitd at unix://{path}: not for you"):
            await daemon.check()
        await daemon.introduce()
    assert "not for you (it is tried anew for each client that connects)" in caplog.text


@asynccontextmanager
async def peer(path: Path, handler: Handler) -> AsyncIterator[None]:
    server = await asyncio.start_unix_server(handler, path)
    try:
        yield
    finally:
        server.close()


async def connect(path: Path) -> Any:
    async with seen(path) as daemon, asyncio.timeout(PATIENCE):
        return await daemon.connect(Scheduler())


async def test_a_connection_has_the_daemons_settings(tmp_path: Path) -> None:
    path = tmp_path / "d"
    async with simulated(path, SimulatedDaemon()):
        connection = await connect(path)
        assert connection.has_settings
        assert not connection.is_closed
        connection.close()


async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot reach buildkitd at unix://"):
        await connect(tmp_path / "d")


async def test_a_peer_that_hangs_up(tmp_path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async with peer(tmp_path / "d", hang_up):
        with pytest.raises(UnavailableError, match="cannot reach buildkitd at unix://"):
            await connect(tmp_path / "d")


async def test_a_peer_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.05)
    gone = asyncio.Event()

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1 << 10):
            pass
        gone.set()
        writer.close()

    async with peer(tmp_path / "d", keep_silent):
        with pytest.raises(UnavailableError, match="cannot reach buildkitd at unix://"):
            await connect(tmp_path / "d")
        async with asyncio.timeout(PATIENCE):
            await gone.wait()


async def test_giving_up_closes_the_connection(tmp_path: Path) -> None:
    came, gone = asyncio.Event(), asyncio.Event()

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        while await reader.read(1 << 10):
            pass
        gone.set()
        writer.close()

    async with peer(tmp_path / "d", keep_silent):
        task = asyncio.create_task(connect(tmp_path / "d"))
        await came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(PATIENCE):
            await gone.wait()
