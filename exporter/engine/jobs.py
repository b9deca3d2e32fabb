"""Work that belongs to a request: running it, streaming its progress, and stopping it."""

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
"""Seconds between two progress messages of one request (BuildKit's own pace): an exporter may report every
chunk."""


class ClientGoneError(Exception):
    """Nobody is there any more to read an answer."""


class Jobs:
    """The tasks of all running requests.

    A request's work runs in a task of its own and not in gRPC's, so that whoever stops it can wait until it
    has cleaned up.
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
        """Run `work` and send its progress while it runs, all of it before this returns or raises.

        A slow reader makes `send` wait; meanwhile progress is merged and not queued up. Cancelling this, or a
        `send` that fails, cancels the work and waits for its end.

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
            raise UnavailableError("the server was shut down before this had ended; try again")
        return task.result()

    async def wait(self) -> None:
        """Wait until no task is left."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def stop(self) -> None:
        """Cancel all tasks, and those to come."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()


@contextmanager
def delivering() -> Iterator[None]:
    """Around a write to a caller.

    Raises:
        ClientGoneError: the write failed, in whichever of several ways gRPC has for that.
    """
    try:
        yield
    except Exception as error:
        raise ClientGoneError from error


async def _stop(task: asyncio.Task[Any]) -> None:
    """Cancel `task` and wait for its end, even if we are cancelled ourselves meanwhile."""
    task.cancel()
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if not task.cancelled():
        task.exception()  # seen, even if nobody will ask for it
    if cancelled:
        raise asyncio.CancelledError
