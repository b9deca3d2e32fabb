"""A call of `exporter.rpc.channel`, for generated stubs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable
from typing import Any, TypeVar, cast

import grpc
import grpc.aio

from exporter.rpc.http2.calling import OutgoingCall
from exporter.rpc.http2.ending import CallEnd
from exporter.rpc.parsing import counting

__all__ = ["Deserialize", "FrameCall", "Serialize"]

_Q = TypeVar("_Q")
_A = TypeVar("_A")

Serialize = Callable[[Any], bytes]
Deserialize = Callable[[bytes], Any]


class FrameCall(
    grpc.aio.UnaryUnaryCall[_Q, _A],
    grpc.aio.UnaryStreamCall[_Q, _A],
    grpc.aio.StreamUnaryCall[_Q, _A],
    grpc.aio.StreamStreamCall[_Q, _A],
):
    """A call of any kind. As in gRPC, awaiting a call that was cancelled locally raises CancelledError.

    Unlike gRPC's `write`, this one reports the status with which the callee has ended the call. Several tasks
    may use it.

    Args:
        call: The call.
        serialize: Converts requests to bytes.
        deserialize: Converts bytes to responses.
    """

    def __init__(
        self, call: OutgoingCall, serialize: Serialize | None, deserialize: Deserialize | None
    ) -> None:
        self._call = call
        self._serialize = serialize
        self._deserialize = None if deserialize is None else counting(deserialize)
        self._callbacks: list[Callable[[Any], None]] = []

    def __aiter__(self) -> AsyncIterator[_A]:
        return self._messages()

    def __await__(self) -> Generator[Any, None, _A]:
        return self._only_response().__await__()

    async def read(self) -> Any:
        """Return the next message, or `grpc.aio.EOF` if the call has ended with status OK.

        Raises:
            grpc.aio.AioRpcError: the call has failed.
            asyncio.CancelledError: the call was cancelled locally.
        """
        message = await self._call.read()
        if message is None:
            self._raise_for_end()
            return grpc.aio.EOF
        try:
            return message if self._deserialize is None else self._deserialize(message)
        except Exception as error:
            self._call.cancel()
            raise CallEnd(grpc.StatusCode.INTERNAL, f"a response cannot be read: {error}").error() from error

    async def write(self, request: _Q) -> None:
        """Send a message; wait while the callee is slow. Cancelling this cancels the call.

        Raises:
            grpc.aio.AioRpcError: the call has failed.
            asyncio.InvalidStateError: the call has ended with status OK, or is half-closed (`done_writing`).
            asyncio.CancelledError: the call was cancelled locally.
        """
        self.send(request)
        try:
            goes_on = await self._call.writable()
        except asyncio.CancelledError:
            self._call.cancel()
            raise
        if not goes_on:
            self._raise_for_end()
            raise asyncio.InvalidStateError("the server has ended the call")

    def send(self, request: _Q) -> None:
        """Send a message without waiting."""
        self._call.send(cast(bytes, request) if self._serialize is None else self._serialize(request))

    def send_end(self) -> None:
        """Half-close the call: no more requests follow."""
        self._call.send_end()

    async def done_writing(self) -> None:
        """Half-close the call: no more requests follow."""
        self.send_end()

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Wait for the initial metadata."""
        return grpc.aio.Metadata(*await self._call.initial_metadata())

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """Wait for the end of the call, and return the trailing metadata."""
        return grpc.aio.Metadata(*(await self._call.ended()).trailers)

    async def code(self) -> grpc.StatusCode:
        """Wait for the end of the call, and return its status."""
        return (await self._call.ended()).code

    async def details(self) -> str:
        """Wait for the end of the call, and return the text of its status."""
        return (await self._call.ended()).details

    async def wait_for_connection(self) -> None:
        """Return at once unless the call has failed: the connection already exists.

        Raises:
            grpc.aio.AioRpcError: the call has failed.
        """
        if self._call.end is not None:
            self._raise_for_end()

    def cancel(self) -> bool:
        """Cancel the call. Returns False if it had already ended."""
        return self._call.cancel()

    def cancelled(self) -> bool:
        """Whether the call was cancelled locally."""
        return self._call.is_cancelled

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._call.end is not None

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline; None if there is none."""
        return self._call.time_remaining()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Add a function that is called with this call when it has ended."""
        if self.done():
            callback(self)
        else:
            self._callbacks.append(callback)

    def note_end(self) -> None:
        """Run the callbacks of `add_done_callback`."""
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    async def send_all(self, requests: AsyncIterable[_Q] | Iterable[_Q]) -> None:
        """Send messages until there are no more, or the call has ended."""
        try:
            if isinstance(requests, AsyncIterable):
                async for request in requests:
                    await self.write(request)
            else:
                for request in requests:
                    await self.write(request)
            self._call.send_end()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the call has the status
        except BaseException:
            self._call.cancel()
            raise

    async def _messages(self) -> AsyncIterator[_A]:
        try:
            while (message := await self.read()) is not grpc.aio.EOF:
                yield message
        except asyncio.CancelledError:
            self._call.cancel()
            raise

    async def _only_response(self) -> _A:
        try:
            message = await self.read()
            if message is not grpc.aio.EOF:
                await self._call.ended()
                self._raise_for_end()
                return cast(_A, message)
        except asyncio.CancelledError:
            self._call.cancel()
            raise
        raise CallEnd(
            grpc.StatusCode.INTERNAL, "the call has ended with status OK, but without a response"
        ).error()

    def _raise_for_end(self) -> None:
        if self._call.is_cancelled:
            raise asyncio.CancelledError
        assert self._call.end is not None
        if self._call.end.code is not grpc.StatusCode.OK:
            raise self._call.end.error(self._call.initial)
