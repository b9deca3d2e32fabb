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
    """Create a server that converts its handlers' exceptions to statuses. Start it within the block.

    At the end, the server is stopped and its handlers have finished. Stopping alone only cancels them: a
    handler that is still cleaning up would outlive its resources, be cancelled again at the end of the
    program, and leave files behind.

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
    """Tracks the tasks that handle calls. gRPC does not expose them, but interceptors run inside them."""

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
        """Wait until all handlers have finished. They must have been cancelled."""
        if self._tasks:
            await asyncio.wait(self._tasks)
