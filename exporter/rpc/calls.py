"""Outgoing streaming calls, which the peer may end at any moment.

If the peer has just ended a call, `grpc.aio`'s own ``write`` replaces the status by ``INTERNAL``, so that the
writer does not learn the reason. Here, the status is read when the call ends.
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
        call: A new call. It is `Any`, because gRPC's types lack methods that we need.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._end: tuple[grpc.StatusCode, str, grpc.aio.Metadata] | None = None
        call.add_done_callback(self._note_end)

    def _note_end(self, call: Any) -> None:
        """Store the status. Reading it now does not block; later, it may be replaced."""
        self._end = _at_once(call.code()), _at_once(call.details()), _at_once(call.trailing_metadata())

    async def read(self) -> Any:
        """Return the next message, or `grpc.aio.EOF` after the peer has ended the call successfully.

        Raises:
            grpc.aio.AioRpcError: the call failed.
        """
        try:
            return await self._call.read()
        except grpc.aio.AioRpcError:
            if (error := await self.ended_with()) is not None:
                raise error from None
            return grpc.aio.EOF

    async def send(self, message: Any) -> bool:
        """Send a message, with backpressure.

        A message in flight cannot be withdrawn, and only one can be sent at a time. So, as with gRPC's own
        ``write``, cancelling the writer cancels the call.

        Returns:
            Whether it was sent. If not, the call has ended; see `ended_with`.
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
        """Half-close the call, unless it has ended already."""
        if not self._call.done():
            await self._call.done_writing()

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Wait for the peer's initial metadata."""
        metadata: grpc.aio.Metadata = await self._call.initial_metadata()
        return metadata

    async def status(self) -> tuple[grpc.StatusCode, str, grpc.aio.Metadata]:
        """Wait for the end, and return the status code, details and trailing metadata."""
        await self._call.code()
        if self._end is None:
            self._note_end(self._call)
        assert self._end is not None
        return self._end

    async def ended_with(self) -> grpc.aio.AioRpcError | None:
        """Wait for the end.

        Returns:
            The error; None if the call was successful.
        """
        code, details, trailers = await self.status()
        if code is grpc.StatusCode.OK:
            return None
        return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, details)

    def cancel(self) -> None:
        """Cancel the call."""
        self._call.cancel()


class CallStream:
    """A call without serializers, as a stream of bytes that several tasks may write to.

    Args:
        call: A bidirectional streaming call.
        doing: Its purpose, for errors.
    """

    def __init__(self, call: Any, doing: str) -> None:
        self._call = StreamCall(call)
        self._doing = doing
        self._turn = asyncio.Lock()

    async def read(self) -> object:
        """Return the next message; something other than bytes after the peer has ended the call successfully.

        Raises:
            ExporterError: the call failed.
        """
        with rpc_errors(self._doing):
            return await self._call.read()

    async def write(self, *messages: bytes) -> None:
        """Send messages in order, with backpressure.

        Raises:
            ExporterError: the peer has ended the call.
        """
        async with self._turn:
            for message in messages:
                if not await self._call.send(message):
                    error = await self._error()
                    raise error or UnavailableError(f"{self._doing}: the peer has ended the call early")

    async def finish(self) -> None:
        """Half-close the call, and wait for its end.

        Raises:
            ExporterError: the call failed.
        """
        await self._call.send_end()
        if (error := await self._error()) is not None:
            raise error

    async def _error(self) -> ExporterError | None:
        error = await self._call.ended_with()
        return from_rpc_error(error, self._doing) if error is not None else None


def _at_once(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """The result of a coroutine that does not wait."""
    try:
        coroutine.send(None)
    except StopIteration as result:
        value: _T = result.value
        return value
    coroutine.close()
    raise RuntimeError("the call has not ended")
