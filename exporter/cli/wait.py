"""The command ``wait``."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from exporter.cli.client import ServerAccess, connect
from exporter.cli.commands.wait import WaitArgs
from exporter.cli.failures import ExitCode
from exporter.cli.running import run_async
from exporter.daemon.identity import identify
from exporter.errors import UnavailableError
from exporter.rpc.diagnosis import why_unreachable

_PAUSE_SECONDS = 0.1
_TRY_SECONDS = 5.0


def run_wait(options: WaitArgs) -> int:
    """Wait until a server answers at an address.

    Raises:
        UsageError: an option is invalid.
        UnavailableError: the server has not answered in time.
    """
    return run_async(_wait(options))


async def _wait(options: WaitArgs) -> int:
    access = ServerAccess.of(options)
    deadline = time.monotonic() + access.timeout
    while True:
        left = deadline - time.monotonic()
        # A new channel for each attempt, because a failed one backs off before it reconnects.
        async with connect(access) as channel:
            try:
                await _check(channel, min(max(left, _PAUSE_SECONDS), _TRY_SECONDS))
                if not options.quiet:
                    print(f"{await identify(channel, _TRY_SECONDS)} answers at {access.address}")
                return ExitCode.OK
            except grpc.aio.AioRpcError as error:
                failure = error
        if time.monotonic() + _PAUSE_SECONDS >= deadline:
            break
        await asyncio.sleep(_PAUSE_SECONDS)
    reason = await why_unreachable(await access.endpoint())
    raise UnavailableError(
        f"{access.address} is not ready after {access.timeout:g} s: "
        f"{reason or failure.details() or failure.code().name}"
    )


async def _check(channel: grpc.aio.Channel, timeout: float) -> None:
    """Call the health service. A server without that service counts as ready.

    Raises:
        grpc.aio.AioRpcError: the server does not answer, or reports that it is not serving.
    """
    stub: Any = health_pb2_grpc.HealthStub(channel)
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
            raise
        return
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise grpc.aio.AioRpcError(
            grpc.StatusCode.UNAVAILABLE,
            grpc.aio.Metadata(),
            grpc.aio.Metadata(),
            details="it reports that it is not serving",
        )
