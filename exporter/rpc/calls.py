"""Streaming calls of ours, whose other side may end them at any moment.

`grpc.aio`'s own ``write`` replaces the status with which the other side has just ended a call by
``INTERNAL``, so that whoever writes never learns why. What is written here leaves the status alone.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from exporter.errors import ExporterError, UnavailableError
from exporter.rpc.status import from_rpc_error, rpc_errors

__all__ = ["CallStream", "ended_with", "error_of", "send_end", "send_message"]


async def send_message(call: Any, message: bytes) -> bool:
    """Send a message, which is serialized already; wait while the other side is slow.

    A message that is being sent cannot be taken back, and only one can be sent at a time. So as with gRPC's
    own ``write``, the call is cancelled with its writer.

    Args:
        call: A streaming call of ours. Its type hides what is needed of it.
        message: The message.

    Returns:
        Whether it could be sent. If not, the call has ended; `error_of` tells how.
    """
    try:
        await call.wait_for_connection()
        await call._cython_call.send_serialized_message(message)
    except (grpc.aio.InternalError, grpc.aio.AioRpcError):
        return False
    except asyncio.CancelledError:
        call.cancel()
        raise
    return True


async def send_end(call: Any) -> None:
    """Say that nothing more comes, unless the call has ended anyway.

    Args:
        call: A streaming call of ours.
    """
    with suppress(grpc.aio.InternalError):
        await call.done_writing()


async def ended_with(call: Any) -> grpc.aio.AioRpcError | None:
    """Wait for the end of a call of ours.

    Returns:
        Its status; None if it has ended well.
    """
    code = await call.code()
    if code is grpc.StatusCode.OK:
        return None
    trailer, details = await call.trailing_metadata(), await call.details()
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailer, details)


async def error_of(call: Any, doing: str) -> ExporterError | None:
    """Wait for the end of a call of ours.

    Args:
        call: The call.
        doing: What it was to do; see `from_rpc_error`.

    Returns:
        What went wrong; None if nothing has.
    """
    error = await ended_with(call)
    return from_rpc_error(error, doing) if error is not None else None


class CallStream:
    """A call of ours without serializers, as a stream of bytes that several tasks may write to.

    Args:
        call: A call that streams both ways.
        doing: What it is to do, for errors.
    """

    def __init__(self, call: grpc.aio.StreamStreamCall[bytes, bytes], doing: str) -> None:
        self._call = call
        self._doing = doing
        self._turn = asyncio.Lock()

    async def read(self) -> object:
        """Return the next message; something else than bytes if the other side has ended the call well.

        Raises:
            ExporterError: the status with which it has ended.
        """
        with rpc_errors(self._doing):
            return await self._call.read()

    async def write(self, *messages: bytes) -> None:
        """Send messages, one after the other; wait while the other side is slow.

        Raises:
            ExporterError: the other side has ended the call.
        """
        async with self._turn:
            for message in messages:
                if not await send_message(self._call, message):
                    error = await error_of(self._call, self._doing)
                    raise error or UnavailableError(f"{self._doing}: the other side has ended the call early")

    async def finish(self) -> None:
        """Say that nothing more comes, and wait for the end of the call.

        Raises:
            ExporterError: it has not ended well.
        """
        await send_end(self._call)
        if (error := await error_of(self._call, self._doing)) is not None:
            raise error
