"""gRPC servers that own the handlers of their calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from exporter.rpc.status import StatusInterceptor

__all__ = ["open_server"]


@asynccontextmanager
async def open_server(options: Iterable[tuple[str, int]] = ()) -> AsyncIterator[grpc.aio.Server]:
    """Make a server that turns what its handlers raise into statuses. Start it within the block.

    At the end it is stopped, and its handlers have come to an end, too: stopping only cancels them. One that
    still tidies up would otherwise outlive what it works with, be cancelled again by the end of the program,
    and leave behind what it was about to remove.

    Args:
        options: Channel arguments.
    """
    calls = _RunningCalls()
    server = grpc.aio.server(interceptors=[calls, StatusInterceptor()], options=tuple(options))
    try:
        yield server
    finally:
        await server.stop(None)
        await calls.ended()


class _RunningCalls(grpc.aio.ServerInterceptor):
    """Knows the tasks that handle calls: gRPC tells of none, but intercepts within them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Remember the task of a call."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await continuation(handler_call_details)

    async def ended(self) -> None:
        """Wait until all calls have been handled. They must have been cancelled."""
        if self._tasks:
            await asyncio.wait(self._tasks)
