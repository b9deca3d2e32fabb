"""Blocking work off the event loop, without losing track of it."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


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
