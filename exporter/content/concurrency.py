"""Running several operations concurrently, like Go's ``errgroup``.

The first failure cancels the others and is raised itself, not in an exception group, because callers depend
on its type.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def gather(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines concurrently and wait for all of them.

    Returns:
        Their results, in order.

    Raises:
        BaseException: the first failure, after the other coroutines have ended.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as errors:
        # Raise it as if it had been awaited alone: without the group, and with its own cause.
        error = errors.exceptions[0]
        raise error from error.__cause__
    return [task.result() for task in tasks]


async def map_each(items: Iterable[T], action: Callable[[T], Awaitable[R]], concurrency: int) -> list[R]:
    """Run `action` for each item, at most `concurrency` at a time. `items` is consumed lazily.

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
