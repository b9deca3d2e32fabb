"""What both ends of a session have in common: the stream of its bytes, and limits.

A `Control.Session` stream carries the bytes of one HTTP/2 connection (upstream: ``session/grpchijack``), see
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
"""Bytes of the largest message that is sent. The cost of a tunnel is per message."""

MAX_MESSAGE_BYTES = 16 << 20
"""Largest message that is taken, as in BuildKit's own sessions. A message is held in memory whole."""

_MAX_METADATA_BYTES = 16 << 20
_PARENT_LIMIT = 64

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


async def _stop(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@contextmanager
def private_path() -> Iterator[str]:
    """A path for a socket, in a directory that only we can enter; both are gone when the block ends."""
    # An address of a Unix socket has at most 107 bytes.
    is_long = len(os.fsencode(tempfile.gettempdir())) > _PARENT_LIMIT
    with private_directory(Path("/tmp") if is_long else None) as directory:
        yield f"{directory}/s"
