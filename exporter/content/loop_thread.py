"""An event loop in a thread, for callers that are ordinary functions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """An event loop in a thread of its own. `close` ends both.

    The thread does not keep the process alive.

    Args:
        name: The thread's name.
    """

    def __init__(self, name: str = "event loop") -> None:
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    @classmethod
    @contextmanager
    def running(cls, name: str = "event loop") -> Iterator[LoopThread]:
        """Start a loop, and stop it when the block ends."""
        thread = cls(name)
        try:
            yield thread
        finally:
            thread.close()

    def close(self) -> None:
        """Stop the loop, after cancelling what still runs in it."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._runner.close()

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._loop.is_closed()

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, and return its result.

        If the caller is interrupted (Ctrl-C), the coroutine is cancelled; when it has ended, that is raised.

        Raises:
            RuntimeError: the loop is closed, or the caller is in its thread and would wait for itself.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("a callback of a blocking client cannot call that client")
        tasks: list[asyncio.Task[T]] = []
        ended = threading.Event()

        def start() -> None:
            tasks.append(self._loop.create_task(coroutine))
            tasks[0].add_done_callback(lambda _: ended.set())

        def cancel() -> None:  # runs after `start`, if that was scheduled before the interruption
            if tasks:
                tasks[0].cancel()
            else:
                coroutine.close()
                ended.set()

        try:
            self._loop.call_soon_threadsafe(start)
            ended.wait()
        except BaseException:
            try:
                self._loop.call_soon_threadsafe(cancel)
            except RuntimeError:  # the loop is closed
                coroutine.close()
            else:
                ended.wait()
                if tasks and not tasks[0].cancelled():
                    tasks[0].exception()  # retrieved; the caller gets the interruption instead
            raise
        return tasks[0].result()

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Iterate over items that arrive asynchronously."""
        try:
            while True:
                try:
                    yield self.wait(_next(items))
                except StopAsyncIteration:
                    return
        finally:
            if (close := getattr(items, "aclose", None)) is not None and not self.is_closed:
                self.wait(close())

    @contextmanager
    def entered(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Enter an asynchronous context manager, and exit it in the same task.

        If the block ends with an exception, so does the block in the task.
        """
        opened: asyncio.Future[T] = self._loop.create_future()
        leave = asyncio.Event()
        has_failed = False

        async def hold() -> None:
            try:
                async with manager as value:
                    opened.set_result(value)
                    await leave.wait()
                    if has_failed:
                        raise _LeftError
            except BaseException as error:
                if isinstance(error, _LeftError):
                    return
                if opened.done():
                    raise
                opened.set_exception(error)

        async def start() -> T:
            tasks.append(asyncio.create_task(hold()))
            return await opened

        async def end() -> None:
            leave.set()
            await tasks[0]

        tasks: list[asyncio.Task[None]] = []
        value = self.wait(start())
        try:
            yield value
        except BaseException:
            has_failed = True
            raise
        finally:
            self.wait(end())


class _LeftError(Exception):
    """Stands for an exception of the caller: KeyboardInterrupt would end the loop."""


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)
