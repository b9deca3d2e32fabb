"""Sending the body of an HTTP request piece by piece, while the request is under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class _Body:
    """A body that takes one piece at a time; the next can be prepared while this one is being sent."""

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
    """A request whose body is being written; made by `sending`."""

    def __init__(self, body: _Body, request: asyncio.Task[T], stall_seconds: float | None) -> None:
        self._body = body
        self._request = request
        self._stall_seconds = stall_seconds

    async def write(self, data: bytes) -> None:
        """Send more of the body; waits while the other side is slow.

        Nothing happens if the request has been answered already: the other side needs no more.

        Raises:
            TimeoutError: the other side has taken nothing for too long.
            Exception: the request has failed, with this.
        """
        if data:
            await self._put(data)

    async def finish(self) -> T:
        """End the body and wait for the request's result.

        Raises:
            TimeoutError: the other side does not take the end of the body.
            Exception: the request has failed, with this.
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
    """Run a request as a task while the block writes its body. The task has ended when the block has.

    Args:
        send: Makes the request with the given body. It must not need the body twice.
        stall_seconds: How long the other side may take no bytes; None for ever.
    """
    body = _Body()

    async def run() -> T:
        try:
            return await send(body)
        finally:
            body.is_free.set()  # nobody takes pieces any more; who waits to write shall look

    request = asyncio.create_task(run())
    try:
        yield Sending(body, request, stall_seconds)
    finally:
        request.cancel()
        await asyncio.wait([request])
        if not request.cancelled():
            request.exception()  # seen: who wrote has been told, or has an error of its own
