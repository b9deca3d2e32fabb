"""Connections to Docker engines that misbehave."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from yarl import URL

from exporter.client.dockerd import connect_dockerd, is_engine, upgraded
from exporter.errors import UnavailableError
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.remotes.docker_engine import EngineAddress
from tests.sessions import PATIENCE

UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


@pytest.fixture
def socket() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="bke-", dir="/tmp"))
    yield directory / "s"
    shutil.rmtree(directory)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(socket: Path, handle: Handler) -> AsyncIterator[None]:
    """Handle all connections; they are closed when the block has ended."""
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())

        def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.create_task(handle_and_close(reader, writer))

        async def handle_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                await handle(reader, writer)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

        await stack.enter_async_context(await asyncio.start_unix_server(on_connect, socket))
        async with asyncio.timeout(PATIENCE):
            yield


@asynccontextmanager
async def answering(socket: Path, answer: bytes) -> AsyncIterator[list[bytes]]:
    """Something that answers every request in the same way, and returns what comes after it."""
    requests: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        while answer.startswith(UPGRADED) and (data := await reader.read(1000)):
            writer.write(data.upper())

    async with listening(socket, handle):
        yield requests


async def test_an_upgraded_connection(socket: Path) -> None:
    async with (
        answering(socket, UPGRADED + b"first") as requests,
        upgraded(
            EngineAddress(socket=socket), "session", [("x-docker-a", "1"), ("x-docker-a", "2")]
        ) as stream,
    ):
        message = await stream.read()
        assert isinstance(message, control_pb2.BytesMessage)
        assert message.data == b"first"
        await stream.write(control_pb2.BytesMessage(data=b"abc"))
        message = await stream.read()
        assert isinstance(message, control_pb2.BytesMessage)
        assert message.data == b"ABC"
    assert requests == [
        b"POST /session HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
        b"x-docker-a: 1\r\nx-docker-a: 2\r\n\r\n"
    ]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b'HTTP/1.1 404 Not Found\r\n\r\n{"message":"page not found"}', "404 Not Found.*page not found"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "has no BuildKit"),
        (b"", "is it running"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is it running"),
        (b"x" * 300_000, "is not a Docker engine"),
    ],
)
async def test_servers_without_buildkit(socket: Path, answer: bytes, problem: str) -> None:
    async with answering(socket, answer):
        with pytest.raises(UnavailableError, match=problem):
            async with connect_dockerd(EngineAddress(socket=socket)):
                pass


async def test_a_server_that_upgrades_and_disconnects(socket: Path) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(UPGRADED)

    async with listening(socket, handle):
        with pytest.raises(UnavailableError):
            async with connect_dockerd(EngineAddress(socket=socket)):
                pass


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\n\r\nOK", True),
        (b"HTTP/1.1 200 OK\r\nServer: Docker\r\napi-version: 1.51\r\n\r\nOK", True),
        (b"\0\0\6\4\0\0\0\0\0", False),
        (b"", False),
    ],
)
async def test_which_kind_of_daemon_it_is(socket: Path, answer: bytes, expected: bool) -> None:
    async with answering(socket, answer):
        assert await is_engine(EngineAddress(socket=socket)) is expected


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 400 Bad\r\n\r\nApi"])
async def test_another_http_server_is_neither(socket: Path, answer: bytes) -> None:
    async with answering(socket, answer):
        with pytest.raises(UnavailableError, match="is an HTTP server, but not a Docker engine"):
            await is_engine(EngineAddress(socket=socket))


async def test_an_unreachable_daemon_is_reported(socket: Path) -> None:
    with pytest.raises(UnavailableError, match="is it running"):
        await is_engine(EngineAddress(socket=socket))
    with pytest.raises(UnavailableError, match=r"http://127\.0\.0\.1:1"):
        await is_engine(EngineAddress(url=URL("http://127.0.0.1:1")))
