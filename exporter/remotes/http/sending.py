"""Streaming the body of an HTTP request while it is in flight."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class _Body:
    """A body that buffers a single piece, so that the next can be prepared while this one is being sent."""

    def __init__(self) -> None:
        self.is_free = asyncio.Event()
        self.is_free.set()
        self._is_filled = asyncio.Event()
        self._piece: bytes | None = None

    def put(self, piece: bytes | None) -> None:
        self.is_free.clear()
        self._piece = piece
        self._is_filled.set()

    def __aiter__(self) -> _Body:
        return self

    async def __anext__(self) -> bytes:
        await self._is_filled.wait()
        self._is_filled.clear()
        if self._piece is None:
            raise StopAsyncIteration
        piece, self._piece = self._piece, None
        self.is_free.set()
        return piece


class Sending(Generic[T]):
    """A request whose body is being written; created by `sending`."""

    def __init__(self, body: _Body, request: asyncio.Task[T], stall_seconds: float | None) -> None:
        self._body = body
        self._request = request
        self._stall_seconds = stall_seconds

    async def write(self, data: bytes) -> None:
        """Send more of the body, with backpressure from the server.

        If the server has already responded, the data is discarded.

        Raises:
            TimeoutError: the server has not accepted any data for too long.
            Exception: the request failed with this exception.
        """
        if data:
            await self._put(data)

    async def finish(self) -> T:
        """Finish the body, and wait for the request's result.

        Raises:
            TimeoutError: the server does not accept the end of the body.
            Exception: the request failed with this exception.
        """
        await self._put(None)
        return await self._request

    async def _put(self, piece: bytes | None) -> None:
        async with asyncio.timeout(self._stall_seconds):
            await self._body.is_free.wait()
        if self._request.done():
            self._request.result()
        else:
            self._body.put(piece)


@asynccontextmanager
async def sending(
    send: Callable[[AsyncIterable[bytes]], Awaitable[T]], *, stall_seconds: float | None
) -> AsyncIterator[Sending[T]]:
    """Run a request in a task while the block writes its body. The task ends with the block.

    Args:
        send: Makes the request with the given body, which can be iterated only once.
        stall_seconds: How long the server may accept no data; None for no limit.
    """
    body = _Body()

    async def run() -> T:
        try:
            return await send(body)
        finally:
            body.is_free.set()  # wake up a blocked writer, since nothing reads the body any more

    request = asyncio.create_task(run())
    try:
        yield Sending(body, request, stall_seconds)
    finally:
        request.cancel()
        await asyncio.wait([request])
        if not request.cancelled():
            request.exception()  # mark it as retrieved: the writer got it, or has its own error
