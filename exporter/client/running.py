"""A build in progress: its events, its result, and its cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Self

from exporter.client.events import Event, EventReader
from exporter.client.failure import BuildCancelledError
from exporter.client.results import BuildResult
from exporter.progress.model import StatusSink, StatusUpdate
from exporter.progress.queue import CoalescingQueue

EventHandler = Callable[[Event], object]
"""Receives the events of a build, in the thread of the event loop. It must not block. An exception cancels
the build and is raised from it."""


class Build:
    """A build in progress, started by `Client.start`.

    ::

        async with client.start(".") as build:
            async for event in build:
                ...
            result = await build

    Leaving the block cancels the build if it has not ended.

    Attributes:
        ref: Its ID.
    """

    def __init__(
        self,
        ref: str,
        run: Callable[[StatusSink, EventReader], Awaitable[BuildResult]],
        on_event: EventHandler | None,
        *,
        is_iterated: bool,
        on_end: Callable[[], object],
    ) -> None:
        self.ref = ref
        self._on_event = on_event
        self._on_end = on_end
        self._reader = EventReader()
        self._queue = CoalescingQueue() if is_iterated else None
        self._failure: Exception | None = None
        self._task = asyncio.create_task(self._run(run), name=f"build {ref}")
        self._task.add_done_callback(self._end)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cancel()
        await self.wait()

    def __await__(self) -> Generator[Any, None, BuildResult]:
        return self.result().__await__()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Iterate over the events until the build ends, successfully or not. This can be done once.

        If the consumer is slow, only the latest progress of each part of a step arrives, and of a flood of
        output only the end.
        """
        if self._queue is None:
            return
        reader = EventReader()
        async for update in self._queue:
            for event in reader.read(update):
                yield event

    @property
    def is_done(self) -> bool:
        """Whether it has ended."""
        return self._task.done()

    def cancel(self) -> None:
        """Cancel it, unless it has ended. `result` then raises `BuildCancelledError`."""
        self._task.cancel()

    async def wait(self) -> None:
        """Wait until it has ended, successfully or not."""
        await asyncio.wait((self._task,))

    async def wait_for(self, future: asyncio.Future[Any]) -> None:
        """Wait until a future is done, or the build has ended."""
        await asyncio.wait((self._task, future), return_when=asyncio.FIRST_COMPLETED)

    async def result(self) -> BuildResult:
        """Wait for its result. Cancelling this cancels the build, and waits until the daemon has ended it.

        Raises:
            BuildError: the build failed.
            BuildCancelledError: the build was cancelled by `cancel` or `Client.cancel`.
            ExporterError: an option is invalid, an export of ours failed, or the daemon is not reachable.
        """
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                self._task.cancel()
                await self._ended()
                raise
            if self._failure is not None:
                raise self._failure from None
            raise BuildCancelledError(f"build {self.ref} was cancelled", ref=self.ref) from None

    async def _ended(self) -> None:
        """Wait until the task has ended, even if we are cancelled again."""
        while not self._task.done():
            try:
                await asyncio.wait((self._task,))
            except asyncio.CancelledError:
                continue

    async def _run(self, run: Callable[[StatusSink, EventReader], Awaitable[BuildResult]]) -> BuildResult:
        return await run(self._report, self._reader)

    def _end(self, task: asyncio.Task[BuildResult]) -> None:
        if self._queue is not None:
            self._queue.close()
        self._on_end()
        if not task.cancelled():
            task.exception()  # mark it as retrieved; callers need not await the result

    def _report(self, update: StatusUpdate) -> None:
        if self._queue is not None:
            self._queue.put(update)
        for event in self._reader.read(update):
            if self._on_event is None or self._failure is not None:
                continue
            try:
                self._on_event(event)
            except Exception as error:
                self._failure = error
                self._task.cancel()
