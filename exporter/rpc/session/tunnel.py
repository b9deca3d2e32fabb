"""The parts common to both ends of a session: its byte stream, and limits.

A `Control.Session` stream carries the bytes of one HTTP/2 connection (upstream: ``session/grpchijack``); see
`exporter.rpc.session.carrier`.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio

from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.rpc.target import unix_target
from exporter.rpc.temporary import private_directory

CHUNK_SIZE = 128 * 1024
"""Maximum size of a message that we send, in bytes. The cost of a tunnel is per message."""

MAX_MESSAGE_BYTES = 16 << 20
"""Maximum size of a message that we accept, in bytes, as in BuildKit. A whole message is held in memory."""

_MAX_METADATA_BYTES = 16 << 20
_PARENT_LIMIT = 64

TUNNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", -1),
    # gRPC's 8 KiB are too small for a build error with its sources, or for exporter-md-* keys.
    ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
    # Go measures bandwidth with pings, which gRPC's C core treats as abuse.
    ("grpc.http2.max_ping_strikes", 0),
    # There is one connection, owned by one channel.
    ("grpc.use_local_subchannel_pool", 1),
)
"""Channel arguments for both ends of a tunnel."""


class MessageStream(Protocol):
    """A stream of `BytesMessage` in both directions.

    Both sides of a gRPC call have this interface: `grpc.aio.ServicerContext` and `grpc.aio.StreamStreamCall`.
    """

    async def read(self) -> object:
        """Return the next message, or `grpc.aio.EOF`."""
        ...

    async def write(self, message: control_pb2.BytesMessage, /) -> None:
        """Send a message; wait while the peer is slow.

        Raises:
            EOFError: the peer has ended the stream with status OK.
            Exception: the stream has failed.
        """
        ...


@asynccontextmanager
async def started(server: grpc.aio.Server) -> AsyncIterator[str]:
    """Start a server that only this process's user can reach. On exit, cancel its calls and stop it.

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


async def both_ways(
    inward: Coroutine[Any, Any, None], outward: Coroutine[Any, Any, None], close: Callable[[], None]
) -> None:
    """Copy bytes in both directions until one of them ends.

    Args:
        inward: Reads from a stream.
        outward: Writes to it.
        close: Called at the end, to close the connection in the stream.

    Raises:
        Exception: the error of the direction that ended. If both have ended, the reader's outcome counts,
            because it has the status of the stream.
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


async def _stop(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@contextmanager
def private_path() -> Iterator[str]:
    """A socket path in a directory that only our user can enter. The directory is removed at the end."""
    # The address of a Unix socket has at most 107 bytes.
    is_long = len(os.fsencode(tempfile.gettempdir())) > _PARENT_LIMIT
    with private_directory(Path("/tmp") if is_long else None) as directory:
        yield f"{directory}/s"
