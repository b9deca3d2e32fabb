"""The daemon behind the proxy: connections to it, and checking what it is."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import suppress

import grpc
import grpc.aio

from exporter.daemon.identity import Identity, Kind, identify
from exporter.errors import UnavailableError
from exporter.rpc.diagnosis import Endpoint, connection_failure, why_unreachable
from exporter.rpc.http2.budget import Share
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.sockets import Dial, Scheduler, dialling

ANSWER_SECONDS = 10.0
"""The timeout for the daemon's HTTP/2 settings on a new connection."""

CHECK_SECONDS = 5.0
"""The timeout for the call that checks whether the daemon answers."""

OLDEST = (0, 22)
"""The first version that describes its build results to external exporters."""

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.")

logger = logging.getLogger(__name__)


class Daemon:
    """The daemon.

    Args:
        dial: Connects to it.
        endpoint: Its address, for messages.
        channel: A channel to it, for the proxy's own calls.
    """

    def __init__(self, dial: Dial, endpoint: Endpoint, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self._dial = dial
        self._endpoint = endpoint

    def __str__(self) -> str:
        return str(self._endpoint.address)

    async def connect(self, scheduler: Scheduler, share: Share | None = None) -> Connection:
        """Open an HTTP/2 connection.

        Args:
            scheduler: Flushes it.
            share: See `Connection`.

        Raises:
            UnavailableError: the daemon is not reachable; says why.
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
        """Check that the daemon answers.

        Returns:
            Its version; empty if unknown.

        Raises:
            UnavailableError: it does not answer, or is not a daemon; says why.
        """
        try:
            found = await self._identify()
        except grpc.aio.AioRpcError as error:
            raise self._unreachable(error.details() or error.code().name) from error
        if found.kind is not Kind.BUILDKIT:
            raise UnavailableError(f"what listens at {self} is {found}, not a BuildKit daemon")
        return found.version

    async def _identify(self) -> Identity:
        try:
            return await identify(self.channel, CHECK_SECONDS)
        except grpc.aio.AioRpcError as error:
            if reason := await why_unreachable(self._endpoint):
                raise self._unreachable(reason) from error
        # The daemon has just started. The channel pauses between its attempts to connect.
        with suppress(TimeoutError):
            await asyncio.wait_for(self.channel.channel_ready(), CHECK_SECONDS)
        return await identify(self.channel, CHECK_SECONDS)

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
    """Wait for the peer's HTTP/2 settings.

    Raises:
        EOFError: the connection was closed before.
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
