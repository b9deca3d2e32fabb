"""Streaming calls of ours, whose other side may end them at any moment.

`grpc.aio`'s own ``write`` replaces the status with which the other side has just ended a call by
``INTERNAL``, so that whoever writes never learns why. Here the status is read when the call ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc
import grpc.aio

from exporter.errors import ExporterError, UnavailableError
from exporter.rpc.status import from_rpc_error, rpc_errors

__all__ = ["CallStream", "StreamCall"]

_T = TypeVar("_T")


class StreamCall:
    """A call that streams both ways, over a channel of gRPC's or of ours (`exporter.rpc.channel`).

    Args:
        call: The call, just begun. Its type hides what is needed of it.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._end: tuple[grpc.StatusCode, str, grpc.aio.Metadata] | None = None
        call.add_done_callback(self._note_end)

    def _note_end(self, call: Any) -> None:
        """Keep the status. It is known now, so that asking for it does not wait; later it may be replaced."""
        self._end = _at_once(call.code()), _at_once(call.details()), _at_once(call.trailing_metadata())

    async def read(self) -> Any:
        """Return the next message, or `grpc.aio.EOF` if the other side has ended the call well.

        Raises:
            grpc.aio.AioRpcError: it has not.
        """
        try:
            return await self._call.read()
        except grpc.aio.AioRpcError:
            if (error := await self.ended_with()) is not None:
                raise error from None
            return grpc.aio.EOF

    async def send(self, message: Any) -> bool:
        """Send a message; wait while the other side is slow.

        A message that is being sent cannot be taken back, and only one can be sent at a time. So as with
        gRPC's own ``write``, the call is cancelled with its writer.

        Returns:
            Whether it could be sent. If not, the call has ended; `ended_with` tells how.
        """
        try:
            await self._call.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return False
        except asyncio.CancelledError:
            self._call.cancel()
            raise
        return True

    async def send_end(self) -> None:
        """Say that nothing more comes, unless the call has ended anyway."""
        if not self._call.done():
            await self._call.done_writing()

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Wait for what the other side says ahead of its first message."""
        metadata: grpc.aio.Metadata = await self._call.initial_metadata()
        return metadata

    async def status(self) -> tuple[grpc.StatusCode, str, grpc.aio.Metadata]:
        """Wait for the end; returns its status, text and metadata."""
        await self._call.code()
        if self._end is None:
            self._note_end(self._call)
        assert self._end is not None
        return self._end

    async def ended_with(self) -> grpc.aio.AioRpcError | None:
        """Wait for the end.

        Returns:
            Its status; None if the call has ended well.
        """
        code, details, trailers = await self.status()
        if code is grpc.StatusCode.OK:
            return None
        return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, details)

    def cancel(self) -> None:
        """End the call."""
        self._call.cancel()


class CallStream:
    """A call without serializers, as a stream of bytes that several tasks may write to.

    Args:
        call: A call that streams both ways.
        doing: What it is to do, for errors.
    """

    def __init__(self, call: Any, doing: str) -> None:
        self._call = StreamCall(call)
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
                if not await self._call.send(message):
                    error = await self._error()
                    raise error or UnavailableError(f"{self._doing}: the other side has ended the call early")

    async def finish(self) -> None:
        """Say that nothing more comes, and wait for the end of the call.

        Raises:
            ExporterError: it has not ended well.
        """
        await self._call.send_end()
        if (error := await self._error()) is not None:
            raise error

    async def _error(self) -> ExporterError | None:
        error = await self._call.ended_with()
        return from_rpc_error(error, self._doing) if error is not None else None


def _at_once(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """The result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as result:
        value: _T = result.value
        return value
    coroutine.close()
    raise RuntimeError("the call has not ended")
