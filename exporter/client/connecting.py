"""Connecting to a daemon by its address: a buildkitd, directly or through a helper, or a Docker engine."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc

from exporter.client.client import BuildkitClient
from exporter.client.dockerd import is_engine, open_dockerd
from exporter.client.helpers import HelperStream, helper_command, run_helper
from exporter.content.threads import run_in_thread
from exporter.daemon.connection import DEFAULT_ADDRESS
from exporter.errors import ExporterError, InvalidArgumentError, UnavailableError
from exporter.remotes.docker_engine import EngineAddress, find_engine
from exporter.remotes.http.tls import client_context, loading_problem
from exporter.rpc.address import Address, UnixAddress, parse_address
from exporter.rpc.channel import FrameChannel
from exporter.rpc.diagnosis import Endpoint, connection_failure, why_unreachable
from exporter.rpc.http2.calling import Caller
from exporter.rpc.http2.sockets import Dial, Scheduler, dialling
from exporter.rpc.limits import MAX_MESSAGE_BYTES
from exporter.rpc.session.call import session_dialer
from exporter.rpc.session.carrier import calling
from exporter.rpc.tls import load_certificate

DOCKER = "docker"
"""The address that means the Docker engine which docker itself would use."""

_DIAL_SECONDS = 10.0
_BUILDKIT_HOST = "BUILDKIT_HOST"
_ALSO = (
    ", docker-container://NAME, podman-container://NAME, nerdctl-container://NAME, kube-pod://POD, "
    "ssh://HOST, or docker for a Docker engine"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """TLS for a daemon at ``tcp://``.

    Attributes:
        cacert: A file with the CA certificates that the daemon's certificate is verified with; those of the
            system if None.
        cert: The client certificate.
        key: Its private key.
        servername: The name that the daemon's certificate must have; the host of the address if None.
    """

    cacert: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None
    servername: str | None = None

    def context(self) -> ssl.SSLContext:
        """Load the files. Blocks.

        Raises:
            InvalidArgumentError: a file cannot be read, or has the wrong format.
        """
        if (self.cert is None) != (self.key is None):
            raise InvalidArgumentError("TLS.cert and TLS.key belong together: give both, or neither")
        ca = None if self.cacert is None else Path(self.cacert)
        try:
            context = client_context(ca)
        except OSError as error:
            raise InvalidArgumentError(
                f"TLS.cacert: {ca} cannot be used: {loading_problem(error)}"
            ) from error
        context.set_alpn_protocols(["h2"])
        if self.cert is not None and self.key is not None:
            for path in (Path(self.cert), Path(self.key)):
                if not os.access(path, os.R_OK):
                    raise InvalidArgumentError(f"TLS: {path} cannot be read")
            load_certificate(context, Path(self.cert), Path(self.key))
        return context


@dataclass(frozen=True, slots=True)
class DaemonConnection:
    """A connection to a daemon.

    Attributes:
        client: Makes the calls.
        address: The daemon's address, for messages.
        engine: The Docker engine that the daemon is part of, if any.
        is_lost: Tells whether the connection has ended, so that a new one is necessary.
    """

    client: BuildkitClient
    address: str
    engine: EngineAddress | None = None
    is_lost: Callable[[], bool] = lambda: False


def daemon_address(address: str | None, environ: Mapping[str, str]) -> str:
    """The address to use: the given one, ``$BUILDKIT_HOST``, or buildkitd's default."""
    return address or environ.get(_BUILDKIT_HOST) or DEFAULT_ADDRESS


@asynccontextmanager
async def open_connection(
    address: str, tls: TLS | None = None, *, timeout: float
) -> AsyncIterator[DaemonConnection]:
    """Connect to a daemon.

    Args:
        address: ``unix:///PATH``, ``tcp://HOST:PORT``, an address of `helper_command`, or `DOCKER`.
        tls: TLS for ``tcp://``.
        timeout: The timeout for the daemon's first response, in seconds.

    Raises:
        InvalidArgumentError: the address or `tls` is invalid.
        UnavailableError: the daemon is not reachable.
    """
    command = helper_command(address)
    if address == DOCKER:
        opening = _open_engine(await run_in_thread(find_engine, environ=os.environ))
    elif command is not None:
        opening = _open_with_helper(address, command, timeout)
    else:
        opening = _open_address(address, tls, timeout)
    if tls is not None and not address.startswith("tcp://"):
        raise InvalidArgumentError(f"TLS is for tcp://HOST:PORT, and the address is {address}: leave it out")
    async with opening as connection:
        yield connection


@asynccontextmanager
async def _open_engine(engine: EngineAddress) -> AsyncIterator[DaemonConnection]:
    async with open_dockerd(engine) as (client, carrying):
        yield DaemonConnection(client, str(engine), engine, carrying.done)


@asynccontextmanager
async def _open_with_helper(
    address: str, command: list[str], timeout: float
) -> AsyncIterator[DaemonConnection]:
    async with run_helper(command) as stream, calling(stream) as (channel, carrying):
        client = BuildkitClient(channel)
        try:
            await client.check(address, timeout)
        except ExporterError as error:
            raise await _helper_failure(address, stream) from error
        yield DaemonConnection(client, address, is_lost=carrying.done)


async def _helper_failure(address: str, stream: HelperStream) -> UnavailableError:
    return UnavailableError(f"cannot reach a BuildKit daemon at {address}: {await stream.explain()}")


@asynccontextmanager
async def _open_address(text: str, tls: TLS | None, timeout: float) -> AsyncIterator[DaemonConnection]:
    address = parse_address(text, field="address", also=_ALSO)
    context = await run_in_thread(tls.context) if tls is not None else None
    server_name = tls.servername if tls is not None else None
    endpoint = Endpoint(
        address,
        tls=context,
        server_name=server_name,
        shows_certificate=tls is not None and tls.cert is not None,
        options="TLS.",
    )
    if tls is None and (engine := await _engine_at(address, endpoint)) is not None:
        async with _open_engine(engine) as connection:
            yield connection
        return
    dial = _dialler(address, context, server_name)
    async with _dialled(dial, endpoint) as channel:
        client = BuildkitClient(channel, session_dialer(dial, str(address)))
        try:
            await client.check(str(address), timeout)
        except UnavailableError as error:
            raise await _unreachable(endpoint, error) from error
        yield DaemonConnection(client, str(address), is_lost=lambda: not _is_open(channel))


@asynccontextmanager
async def _dialled(dial: Dial, endpoint: Endpoint) -> AsyncIterator[FrameChannel]:
    """A channel over a connection of its own.

    A channel of gRPC would leave its thread running in the caller's process, and hide that it reconnects.
    """
    try:
        async with asyncio.timeout(_DIAL_SECONDS):
            _, protocol = await dial(dialling(Scheduler()))
    except OSError as error:  # time-outs and TLS's errors are some
        reason = connection_failure(error, endpoint)
        raise UnavailableError(f"cannot reach a BuildKit daemon at {endpoint.address}: {reason}") from error
    connection = protocol.connection
    assert connection is not None
    channel = FrameChannel(Caller(connection), max_message_bytes=MAX_MESSAGE_BYTES)
    try:
        yield channel
    finally:
        # Close the connection first, so that calls in flight fail with UNAVAILABLE.
        connection.close()
        await channel.close()


def _is_open(channel: FrameChannel) -> bool:
    return channel.get_state() is grpc.ChannelConnectivity.READY


async def _engine_at(address: Address, endpoint: Endpoint) -> EngineAddress | None:
    """The Docker engine at an address, if it is one."""
    engine = EngineAddress.parse(str(address))
    try:
        return engine if await is_engine(engine) else None
    except UnavailableError as error:
        raise await _unreachable(endpoint, error) from error


async def _unreachable(endpoint: Endpoint, error: ExporterError) -> UnavailableError:
    reason = await why_unreachable(endpoint)
    if reason is None:
        return UnavailableError(error.message)
    return UnavailableError(f"cannot reach a BuildKit daemon at {endpoint.address}: {reason}")


def _dialler(address: Address, context: ssl.SSLContext | None, server_name: str | None) -> Dial:
    loop = asyncio.get_running_loop()
    if isinstance(address, UnixAddress):
        return partial(loop.create_unix_connection, path=address.path)
    connect = partial(loop.create_connection, host=address.host, port=address.port)
    if context is None:
        return connect
    return partial(connect, ssl=context, server_hostname=server_name or address.host)
