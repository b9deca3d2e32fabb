"""Channels to daemons."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from exporter.errors import InvalidArgumentError
from exporter.rpc.target import unix_target

DEFAULT_ADDRESS = "unix:///run/buildkit/buildkitd.sock"
"""Where buildkitd listens if it is told nothing else."""

_MAX_METADATA_BYTES = 16 << 20

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # Records of a large cache, and results with SBOMs in their metadata.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A failed step's error quotes its Dockerfile. gRPC would reset the stream over it.
    ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
    # A daemon that was away is found again soon. By default, it might take minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
)
"""Channel arguments for daemons."""


@asynccontextmanager
async def open_channel(
    address: str,
    credentials: grpc.ChannelCredentials | None = None,
    *,
    server_name: str | None = None,
) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to a daemon. It connects with the first call.

    Args:
        address: ``unix:///PATH`` or ``tcp://HOST:PORT``.
        credentials: For TLS; none for plain connections.
        server_name: The name that the server's certificate must have, if not the address's.

    Raises:
        InvalidArgumentError: that is not an address.
    """
    scheme, separator, rest = address.partition("://")
    if not separator or scheme not in {"unix", "tcp"} or not rest:
        raise InvalidArgumentError(f"{address!r} is not an address; write unix:///PATH or tcp://HOST:PORT")
    target = unix_target(rest) if scheme == "unix" else rest
    options: list[tuple[str, int | str]] = list(CHANNEL_OPTIONS)
    if server_name is not None:
        options.append(("grpc.ssl_target_name_override", server_name))
    if credentials is None:
        channel = grpc.aio.insecure_channel(target, options)
    else:
        channel = grpc.aio.secure_channel(target, credentials, options)
    async with channel:
        yield channel
