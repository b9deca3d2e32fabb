"""Doing several things at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

__all__ = ["gather"]

T = TypeVar("T")


async def gather(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines at the same time and wait for all of them, results in order.

    The first that fails ends the others, and its exception is raised when they have ended: as itself and not
    in a group (as Go's ``errgroup`` does it), since callers look at its type.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as errors:
        # As if it had been awaited alone: without the group, and with its own cause.
        error = errors.exceptions[0]
        raise error from error.__cause__
    return [task.result() for task in tasks]
