from __future__ import annotations

import asyncio

import pytest

from exporter.content.concurrency import gather, map_each


async def test_results_are_in_the_order_of_the_items_and_only_some_run_at_once() -> None:
    turn = [asyncio.Event() for _ in range(5)]
    running: set[int] = set()
    most = 0

    async def square(item: int) -> int:
        nonlocal most
        running.add(item)
        most = max(most, len(running))
        if item == 0:
            await turn[4].wait()  # it ends last
        turn[item].set()
        running.remove(item)
        return item * item

    assert await map_each(range(5), square, 2) == [0, 1, 4, 9, 16]
    assert most == 2


async def test_nothing_to_do() -> None:
    async def never(item: int) -> int:
        raise AssertionError(item)

    assert await map_each([], never, 3) == []
    assert await gather([]) == []


async def test_the_first_failure_ends_the_others_and_keeps_its_cause() -> None:
    ended = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fail() -> None:
        raise KeyError("outer") from ValueError("inner")

    with pytest.raises(KeyError) as raised:
        await gather([hang(), fail()])
    assert isinstance(raised.value.__cause__, ValueError)
    assert ended.is_set()
