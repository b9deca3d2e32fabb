"""A Docker engine's embedded BuildKit: the same gRPC as buildkitd's, over an upgraded HTTP connection.

dockerd upgrades the connection of ``POST /grpc`` to gRPC, and that of ``POST /session`` to a session, on
which the client is the server. gRPC for Python does not accept an open connection, so each goes through a
private socket, like the sessions inside gRPC.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from yarl import URL

from exporter.client.client import BuildkitClient
from exporter.content.threads import run_in_thread
from exporter.errors import PermissionDeniedError, UnavailableError
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.remotes.docker_engine import EngineAddress
from exporter.rpc.session.carrier import calling
from exporter.rpc.session.tunnel import CHUNK_SIZE, MessageStream

CONNECT_SECONDS = 10.0
"""The timeout for upgrading a connection."""

_ANSWER_LIMIT = 8 << 10
_HTTP_1 = b"HTTP/1."


@asynccontextmanager
async def connect_dockerd(address: EngineAddress) -> AsyncIterator[BuildkitClient]:
    """Connect to the BuildKit of a Docker engine.

    Args:
        address: The engine.

    Raises:
        UnavailableError: the engine is not reachable, or has no BuildKit (before 18.09, or disabled).
        PermissionDeniedError: access to its socket is denied.
    """
    async with open_dockerd(address) as (client, _):
        yield client


@asynccontextmanager
async def open_dockerd(address: EngineAddress) -> AsyncIterator[tuple[BuildkitClient, asyncio.Task[None]]]:
    """Like `connect_dockerd`, but also yield the task that ends with the connection."""

    @asynccontextmanager
    async def dial(metadata: Sequence[tuple[str, str]]) -> AsyncIterator[MessageStream]:
        async with upgraded(address, "session", metadata) as stream:
            yield stream

    async with upgraded(address, "grpc") as stream, calling(stream) as (channel, carrying):
        client = BuildkitClient(channel, dial)
        await client.check(str(address), CONNECT_SECONDS)
        yield client, carrying


@asynccontextmanager
async def upgraded(
    address: EngineAddress, path: str, headers: Sequence[tuple[str, str]] = ()
) -> AsyncIterator[MessageStream]:
    """Upgrade an HTTP connection to an engine to HTTP/2.

    Args:
        address: The engine.
        path: The endpoint.
        headers: Additional headers of the request.

    Raises:
        UnavailableError: the engine is not reachable, or rejects the upgrade.
        PermissionDeniedError: access to its socket is denied.
    """
    with _connection_errors(address):
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await _connect(address)
            try:
                await _upgrade(reader, writer, address, path, headers)
            except BaseException:
                writer.transport.abort()
                raise
    try:
        yield _SocketStream(reader, writer)
    finally:
        writer.transport.abort()


async def is_engine(address: EngineAddress) -> bool:
    """Whether the server is an engine, which speaks HTTP/1, or a buildkitd, which does not.

    Raises:
        UnavailableError: nothing listens at the address, or a different HTTP server.
        PermissionDeniedError: access to its socket is denied.
    """
    with _connection_errors(address):
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await _connect(address)
            try:
                writer.write(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
                await writer.drain()
                if not (start := await reader.read(len(_HTTP_1))).startswith(_HTTP_1):
                    return False
                answer = start + await reader.read(_ANSWER_LIMIT)
            finally:
                writer.transport.abort()
    if b"api-version:" not in answer.lower():
        raise UnavailableError(f"what listens at {address} is an HTTP server, but not a Docker engine")
    return True


@contextmanager
def _connection_errors(address: EngineAddress) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise UnavailableError(f"{address} does not answer") from error
    except PermissionError as error:
        raise PermissionDeniedError(
            f"{address}: permission denied; join the group that its socket belongs to, or run as a user who "
            "may use it"
        ) from error
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnavailableError(f"{address}: {reason}; is it running?") from error


class _SocketStream:
    """Adapts a connection to a stream of messages, for `exporter.rpc.session.tunnel`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> control_pb2.BytesMessage | None:
        """See `MessageStream.read`."""
        data = await self._reader.read(CHUNK_SIZE)
        return control_pb2.BytesMessage(data=data) if data else None

    async def write(self, message: control_pb2.BytesMessage) -> None:
        """See `MessageStream.write`."""
        self._writer.write(message.data)
        await self._writer.drain()


async def _connect(address: EngineAddress) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.socket is not None:
        return await asyncio.open_unix_connection(str(address.socket), limit=CHUNK_SIZE)
    url = address.url or URL()
    context = await run_in_thread(address.tls.context) if address.tls is not None else None
    tls = context if context is not None else url.scheme == "https"
    return await asyncio.open_connection(url.host, url.port, ssl=tls or None, limit=CHUNK_SIZE)


async def _upgrade(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    address: EngineAddress,
    path: str,
    headers: Sequence[tuple[str, str]],
) -> None:
    url = address.url or URL("http://docker")
    lines = [
        f"POST {url.raw_path.rstrip('/')}/{path} HTTP/1.1",
        f"Host: {url.raw_authority}",
        "Connection: Upgrade",
        "Upgrade: h2c",
        *(f"{key}: {value}" for key, value in headers),
    ]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header has a line break")
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    await writer.drain()
    # Data after the response belongs to the upgraded protocol and stays in the reader.
    try:
        answer = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise UnavailableError(f"what answers at {address} is not a Docker engine") from error
    status, _, _ = answer.decode("latin-1").partition("\r\n")
    if status.split(" ", 2)[1:2] != ["101"]:
        body = (await reader.read(_ANSWER_LIMIT)).decode("utf-8", "replace").strip()
        raise UnavailableError(
            f"Docker engine {address} has no BuildKit, or does not let us use it: {status} {body}".rstrip()
        )
