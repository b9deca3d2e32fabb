"""Running blocking work in threads, and waiting for it even when cancelled."""

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
    """Call `function` in a thread and wait until it returns, even when cancelled.

    A cancelled `asyncio.to_thread` returns immediately, while its thread keeps using files that the caller is
    about to close or remove. Here, cancellation propagates only when the thread is done. So `function` must
    be short: it may process a chunk of a file, but not a file.
    """
    call = functools.partial(contextvars.copy_context().run, functools.partial(function, *args, **kwargs))
    # A future, not a task, because the loop cancels all tasks when it shuts down.
    work = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # mark it as retrieved; the caller gets the cancellation instead
        raise


class StepTimer:
    """Tells a generator for `iterate_in_thread` when to end a step that batches small pieces of work.

    Short steps waste time on thread switches; long ones delay cancellation.
    """

    def __init__(self) -> None:
        self._end = time.monotonic() + _STEP_SECONDS

    def is_over(self) -> bool:
        """Whether the step has lasted long enough. If so, start timing the next one."""
        now = time.monotonic()
        if now < self._end:
            return False
        self._end = now + _STEP_SECONDS
        return True


async def iterate_in_thread(steps: Generator[T, None, object]) -> AsyncGenerator[T, None]:
    """Run a generator in threads, so that it does not block the event loop.

    Closing this generator (see `contextlib.aclosing`) closes `steps` in a thread. Cancellation waits for the
    current step, so steps must be short, as for `run_in_thread`.
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
    """Replaces `StopIteration`, which a future cannot raise."""


def _next(steps: Generator[T, None, object]) -> T:
    try:
        return next(steps)
    except StopIteration:
        raise _EndedError from None
