"""A gRPC connection inside a gRPC stream: how BuildKit sessions travel (upstream: ``session/grpchijack``).

A `Control.Session` stream carries the bytes of one HTTP/2 connection. gRPC for Python takes no transport of
one's own, so the end that calls puts a private Unix socket between the stream and an ordinary channel, and
pumps bytes. Every step waits for the one after it, so flow control reaches through the tunnel and no more
than a few chunks are held. The end that serves is `exporter.rpc.session.end`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio

from exporter.errors import UnavailableError
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.rpc.target import unix_target

CHUNK_SIZE = 128 * 1024
"""Bytes of the largest message that is sent. The cost of a tunnel is per message."""

CONNECT_SECONDS = 10.0
"""How long gRPC may take to connect to a socket of ours."""

CLOSE_SECONDS = 1.0
"""How long calls may take to notice that their connection is gone."""

MAX_MESSAGE_BYTES = 16 << 20
"""Largest message that is taken, as in BuildKit's own sessions. A message is held in memory whole."""

_MAX_METADATA_BYTES = 16 << 20
_SOCKET_PATH_LIMIT = 100

TUNNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", -1),
    # A build error with its sources, or exporter-md-* keys, do not fit into gRPC's 8 KiB.
    ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
    # Go measures bandwidth with pings, which gRPC's C core takes for misuse.
    ("grpc.http2.max_ping_strikes", 0),
    # There is one connection, and it belongs to one channel.
    ("grpc.use_local_subchannel_pool", 1),
)
"""Channel arguments for both ends of a tunnel."""


class MessageStream(Protocol):
    """A stream of `BytesMessage` in both directions.

    Both sides of a gRPC call look like this: `grpc.aio.ServicerContext` and `grpc.aio.StreamStreamCall`.
    """

    async def read(self) -> object:
        """Return the next message, or `grpc.aio.EOF`."""
        ...

    async def write(self, message: control_pb2.BytesMessage, /) -> None:
        """Send a message; wait while the other side is slow.

        Raises:
            EOFError: the other side has ended the stream, and well.
            Exception: it has failed.
        """
        ...


@asynccontextmanager
async def open_channel(
    stream: MessageStream, options: tuple[tuple[str, int], ...] = TUNNEL_OPTIONS
) -> AsyncIterator[tuple[grpc.aio.Channel, asyncio.Task[None]]]:
    """Reach the gRPC server at the other end of a stream.

    Args:
        stream: Carries the connection. It is not closed.
        options: Channel arguments.

    Yields:
        A channel, which is connecting already, and the task that moves the bytes. The task ends when the
        connection does; it raises what ended the stream, if that was a failure. Calls then fail with
        ``UNAVAILABLE``.

    Raises:
        UnavailableError: gRPC did not connect.
    """
    with private_path() as path:
        connection: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
        connection = asyncio.get_running_loop().create_future()

        def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if connection.done():
                writer.transport.abort()
            else:
                connection.set_result((reader, writer))

        listener = await asyncio.start_unix_server(on_connect, path, limit=CHUNK_SIZE)
        channel = grpc.aio.insecure_channel(unix_target(path), options)
        try:
            # A channel connects on its first call. The peer's first bytes, and with them an idle peer's
            # belief in us, would have to wait for that.
            channel.get_state(try_to_connect=True)
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await connection
        except BaseException as error:
            if connection.done() and not connection.cancelled():
                connection.result()[1].transport.abort()
            await channel.close()
            if isinstance(error, TimeoutError):
                raise UnavailableError("cannot connect through the session") from error
            raise
        finally:
            listener.close()
    pump = asyncio.create_task(pump_bytes(stream, reader, writer), name="session tunnel")
    try:
        yield channel, pump
    finally:
        # In this order: calls in flight must fail as UNAVAILABLE. Closing the channel cancels the tasks that
        # wait for them, which would look like a cancellation of the export.
        await _stop(pump)
        await channel.close(grace=CLOSE_SECONDS)


@asynccontextmanager
async def started(server: grpc.aio.Server) -> AsyncIterator[str]:
    """Start a server that only we can connect to; stop it at the end, with its calls cancelled.

    Yields:
        The path of its socket.
    """
    with private_path() as path:
        server.add_insecure_port(unix_target(path))
        await server.start()
        try:
            yield path
        finally:
            await server.stop(None)


async def pump_bytes(
    stream: MessageStream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Move bytes between a stream and a socket until either ends, then close the socket.

    Raises:
        grpc.aio.AioRpcError: the stream, of which we are the client, has failed.
        OSError: the socket has failed.
    """
    await both_ways(_to_socket(stream, writer), _to_stream(stream, reader), writer.transport.abort)


async def both_ways(
    inward: Coroutine[Any, Any, None], outward: Coroutine[Any, Any, None], close: Callable[[], None]
) -> None:
    """Move bytes in both directions until either ends.

    Args:
        inward: Reads from a stream.
        outward: Writes to it.
        close: Called then: ends what the bytes go to and come from.

    Raises:
        Exception: what ended it; of both, what reading says, since that tells best how a stream has ended.
    """
    tasks = [
        asyncio.create_task(inward, name="session: in"),
        asyncio.create_task(outward, name="session: out"),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        close()
        await _stop(*tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()
            break


async def _to_socket(stream: MessageStream, writer: asyncio.StreamWriter) -> None:
    while isinstance(message := await stream.read(), control_pb2.BytesMessage):
        writer.write(message.data)
        await writer.drain()


async def _to_stream(stream: MessageStream, reader: asyncio.StreamReader) -> None:
    with suppress(EOFError):
        while data := await reader.read(CHUNK_SIZE):
            await stream.write(control_pb2.BytesMessage(data=data))


async def _stop(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@contextmanager
def private_path() -> Iterator[str]:
    """A path for a socket, in a directory that only we can enter; both are gone when the block ends."""
    directory = tempfile.mkdtemp(prefix="buildkit-exporter-")
    if len(os.fsencode(directory)) > _SOCKET_PATH_LIMIT:  # an address of a Unix socket has at most 107 bytes
        Path(directory).rmdir()
        directory = tempfile.mkdtemp(prefix="buildkit-exporter-", dir="/tmp")
    try:
        yield f"{directory}/s"
    finally:
        shutil.rmtree(directory, ignore_errors=True)
