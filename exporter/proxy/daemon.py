"""The daemon behind the proxy: connections to it, and whether it is one at all."""

from __future__ import annotations

import asyncio
import logging
import re

import grpc
import grpc.aio

from exporter.daemon.identity import Kind, identify
from exporter.errors import UnavailableError
from exporter.rpc.diagnosis import Endpoint, connection_failure, why_unreachable
from exporter.rpc.http2.budget import Share
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.sockets import Dial, Scheduler, dialling

ANSWER_SECONDS = 10.0
"""How long the daemon may take to answer a connection with HTTP/2's settings."""

CHECK_SECONDS = 5.0
"""How long it may take to answer a call, when it is asked whether it is there."""

OLDEST = (0, 22)
"""The first version that tells exporters outside of it about its build results."""

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.")

logger = logging.getLogger(__name__)


class Daemon:
    """The daemon.

    Args:
        dial: Connects to it.
        endpoint: Where it is, for messages.
        channel: Reaches it as well, for the proxy's own calls.
    """

    def __init__(self, dial: Dial, endpoint: Endpoint, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self._dial = dial
        self._endpoint = endpoint

    def __str__(self) -> str:
        return str(self._endpoint.address)

    async def connect(self, scheduler: Scheduler, share: Share | None = None) -> Connection:
        """Open a connection over which HTTP/2 is spoken.

        Args:
            scheduler: Flushes it.
            share: See `Connection`.

        Raises:
            UnavailableError: there is none; says why.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                _, protocol = await self._dial(dialling(scheduler, share))
        except OSError as error:  # time-outs and TLS's errors are some
            raise self._unreachable(connection_failure(error, self._endpoint)) from error
        connection = protocol.connection
        assert connection is not None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await _settings(connection)
        except BaseException as error:
            connection.close()
            if not isinstance(error, TimeoutError | EOFError):
                raise
            reason = await why_unreachable(self._endpoint)
            raise self._unreachable(reason or "it has ended the connection") from error
        return connection

    async def check(self) -> str:
        """Find out whether the daemon answers.

        Returns:
            Its version; empty if it does not tell.

        Raises:
            UnavailableError: it does not, or is no daemon; says why.
        """
        try:
            found = await identify(self.channel, CHECK_SECONDS)
        except grpc.aio.AioRpcError as error:
            reason = await why_unreachable(self._endpoint)
            raise self._unreachable(reason or error.details() or error.code().name) from error
        if found.kind is not Kind.BUILDKIT:
            raise UnavailableError(f"what listens at {self} is {found}, not a BuildKit daemon")
        return found.version

    async def introduce(self) -> None:
        """Log whether the daemon answers, and its version."""
        try:
            version = await self.check()
        except UnavailableError as error:
            logger.warning("%s (it is tried anew for each client that connects)", error.message)
            return
        logger.info("buildkitd %s answers at %s", version or "of a version before v0.11", self)
        numbers = _VERSION.match(version)
        found = (int(numbers[1]), int(numbers[2])) if numbers is not None else OLDEST
        if not version or (0, 0) < found < OLDEST:  # builds from a source tree say 0.0
            logger.warning(
                "buildkitd at %s is too old for exports of ours, which need v%d.%d or newer",
                self,
                *OLDEST,
            )

    def _unreachable(self, reason: str) -> UnavailableError:
        return UnavailableError(f"cannot reach buildkitd at {self}: {reason}")


async def _settings(connection: Connection) -> None:
    """Wait until the peer has said that it speaks HTTP/2.

    Raises:
        EOFError: the connection has ended before.
    """
    if connection.has_settings:
        return
    if connection.is_closed:
        raise EOFError
    settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_settings() -> None:
        if not settled.done():
            settled.set_result(None)

    def on_closed(error: Exception | None) -> None:
        if not settled.done():
            settled.set_exception(EOFError())

    connection.on_settings, connection.on_closed = on_settings, on_closed
    try:
        await settled
    finally:
        connection.on_settings = connection.on_closed = None
