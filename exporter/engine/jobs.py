"""Running the work of requests, streaming its progress, and stopping it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from exporter.errors import UnavailableError
from exporter.progress.model import StatusSink, StatusUpdate
from exporter.progress.queue import CoalescingQueue

T = TypeVar("T")

PROGRESS_INTERVAL = 0.1
"""Seconds between two progress messages of a request, as in BuildKit. Exporters may report every chunk."""


class ClientGoneError(Exception):
    """The client has disconnected and cannot receive a response."""


class Jobs:
    """The tasks of all running requests.

    The work of a request runs in its own task instead of gRPC's, so that stopping it can wait for its
    cleanup.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopped = False

    def __len__(self) -> int:
        return len(self._tasks)

    async def run(
        self,
        work: Callable[[StatusSink], Coroutine[Any, Any, T]],
        send: Callable[[StatusUpdate], Awaitable[None]],
    ) -> T:
        """Run `work` and send its progress. All of it has been sent when this returns or raises.

        While a slow reader blocks `send`, progress is merged, not queued. Cancellation, or a failing `send`,
        cancels the work and waits for it to end.

        Raises:
            ClientGoneError: `send` failed.
            UnavailableError: the server stopped the work.
        """
        queue = CoalescingQueue()
        task = asyncio.get_running_loop().create_task(work(queue.put))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: queue.close())
        if self._stopped:
            task.cancel()
        try:
            async for update in queue:
                with delivering():
                    await send(update)
                await asyncio.wait([task], timeout=PROGRESS_INTERVAL)
        finally:
            await _stop(task)
        if task.cancelled() and self._stopped:
            raise UnavailableError("the server was shut down before the request finished; try again")
        return task.result()

    async def wait(self) -> None:
        """Wait until no task is left."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def stop(self) -> None:
        """Cancel all current and future tasks."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()


@contextmanager
def delivering() -> Iterator[None]:
    """Wrap a write to a caller.

    Raises:
        ClientGoneError: the write failed, with any of the exceptions that gRPC may raise.
    """
    try:
        yield
    except Exception as error:
        raise ClientGoneError from error


async def _stop(task: asyncio.Task[Any]) -> None:
    """Cancel `task` and wait for it to end, even if cancelled meanwhile."""
    task.cancel()
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if not task.cancelled():
        task.exception()  # mark it as retrieved
    if cancelled:
        raise asyncio.CancelledError
