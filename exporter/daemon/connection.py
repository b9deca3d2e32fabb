"""Channels to daemons."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from exporter.errors import InvalidArgumentError
from exporter.rpc.target import unix_target

DEFAULT_ADDRESS = "unix:///run/buildkit/buildkitd.sock"
"""buildkitd's default address."""

_MAX_METADATA_BYTES = 16 << 20

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # The records of a large cache, and results with SBOMs in their metadata, are large.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # The error of a failed step contains its Dockerfile. With the default, gRPC would reset the stream.
    ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
    # With gRPC's defaults, it may take minutes to reconnect to a restarted daemon.
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
        credentials: Credentials for TLS; None for plain connections.
        server_name: The name that the server's certificate must have; the host of the address if None.

    Raises:
        InvalidArgumentError: the address is malformed.
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
