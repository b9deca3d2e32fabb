"""Writing to a call whose other side may end it at any moment, without losing the status that says why."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from exporter.errors import ExporterError, UnavailableError
from exporter.grpc_status import from_rpc_error, rpc_errors

__all__ = ["CallStream", "error_of", "send_message"]


async def send_message(call: Any, message: bytes) -> bool:
    """Send a message, which is serialized already; wait while the other side is slow.

    Args:
        call: A streaming call of ours. Its type hides what is needed of it.
        message: The message.

    Returns:
        Whether it could be sent. If not, the other side has ended the call.
    """
    try:
        await call.wait_for_connection()
        # Not `write`, which replaces the status with which the other side has ended the call by INTERNAL.
        await call._cython_call.send_serialized_message(message)
    except (grpc.aio.InternalError, grpc.aio.AioRpcError):
        return False
    return True


async def error_of(call: Any, doing: str) -> ExporterError | None:
    """Wait for the end of a call; returns what went wrong, if something has.

    Args:
        call: The call.
        doing: What it was to do; see `from_rpc_error`.
    """
    code = await call.code()
    if code is grpc.StatusCode.OK:
        return None
    trailer, details = await call.trailing_metadata(), await call.details()
    return from_rpc_error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailer, details), doing)


class CallStream:
    """A call of ours without serializers, as a stream of bytes.

    Args:
        call: A call that streams both ways.
        doing: What it is to do, for errors.
    """

    def __init__(self, call: grpc.aio.StreamStreamCall[bytes, bytes], doing: str) -> None:
        self._call = call
        self._doing = doing

    async def read(self) -> object:
        """Return the next message; something else than bytes if the other side has ended the call well.

        Raises:
            ExporterError: the status with which it has ended.
        """
        with rpc_errors(self._doing):
            return await self._call.read()

    async def write(self, message: bytes) -> None:
        """Send a message; wait while the other side is slow.

        Raises:
            ExporterError: the other side has ended the call.
        """
        if not await send_message(self._call, message):
            error = await error_of(self._call, self._doing)
            raise error or UnavailableError(f"{self._doing}: the other side has ended the call early")

    async def finish(self) -> None:
        """Say that nothing more comes, and wait for the end of the call.

        Raises:
            ExporterError: it has not ended well.
        """
        await self._call.done_writing()
        if (error := await error_of(self._call, self._doing)) is not None:
            raise error
