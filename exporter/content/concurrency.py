"""Doing several things at once: the first failure ends the others, and is raised as itself, not in a group.

As Go's ``errgroup`` does it; callers look at the type of an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def gather(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines, all at the same time, and wait for them.

    Returns:
        Their results, in order.

    Raises:
        BaseException: that of the first that fails, when the others have ended.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as errors:
        # As if it had been awaited alone: without the group, and with its own cause.
        error = errors.exceptions[0]
        raise error from error.__cause__
    return [task.result() for task in tasks]


async def map_each(items: Iterable[T], action: Callable[[T], Awaitable[R]], concurrency: int) -> list[R]:
    """Do something with each item, at most `concurrency` at once; each is taken when its turn comes.

    Returns:
        The results, in the order of the items.

    Raises:
        BaseException: see `gather`.
    """
    waiting = iter(enumerate(items))
    results: dict[int, R] = {}

    async def work() -> None:
        for position, item in waiting:
            results[position] = await action(item)

    await gather(work() for _ in range(concurrency))
    return [results[position] for position in range(len(results))]
