"""Blocking work off the event loop, without losing track of it."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_STEP_SECONDS = 0.05


async def run_in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` in a thread and wait for its end, even when cancelled.

    `asyncio.to_thread` returns at once when it is cancelled, while its thread goes on with files that the
    caller is about to close or remove. Here the cancellation goes on as soon as the thread is done, so
    `function` must be short: a chunk of a file, not a file.
    """
    call = functools.partial(contextvars.copy_context().run, functools.partial(function, *args, **kwargs))
    # A future and not a task: the loop cancels all tasks when it shuts down.
    work = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # seen; the cancellation is what the caller hears of
        raise


class StepTimer:
    """Tells a generator for `iterate_in_thread` that joins small pieces of work when to end a step.

    A trip to a thread has its price, and cancellation waits for it.
    """

    def __init__(self) -> None:
        self._end = time.monotonic() + _STEP_SECONDS

    def is_over(self) -> bool:
        """Whether the step has lasted long enough; if so, the next one begins."""
        now = time.monotonic()
        if now < self._end:
            return False
        self._end = now + _STEP_SECONDS
        return True


async def iterate_in_thread(steps: Generator[T, None, object]) -> AsyncGenerator[T, None]:
    """Run a generator in threads: all that it does blocks them and not the event loop.

    It is closed, in a thread, when this is; see `contextlib.aclosing`. Cancellation waits for the step that
    is under way, so a step must be short, as for `run_in_thread`.
    """
    try:
        while True:
            try:
                step = await run_in_thread(_next, steps)
            except _EndedError:
                return
            yield step
    finally:
        await run_in_thread(steps.close)


class _EndedError(Exception):
    """Stands for `StopIteration`, which cannot leave a future."""


def _next(steps: Generator[T, None, object]) -> T:
    try:
        return next(steps)
    except StopIteration:
        raise _EndedError from None
