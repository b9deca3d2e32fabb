"""The event loop of blocking callers."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator

import pytest

from exporter.content.loop_thread import LoopThread


def test_the_thread_ends_with_the_block() -> None:
    with LoopThread.running("a loop") as loop:
        assert "a loop" in {thread.name for thread in threading.enumerate()}
        assert loop.wait(asyncio.sleep(0, "done")) == "done"
    assert loop.is_closed
    assert "a loop" not in {thread.name for thread in threading.enumerate()}
    loop.close()


@pytest.mark.parametrize("attempt", range(20))
def test_an_interrupt_cancels_the_coroutine_and_waits_for_its_end(attempt: int) -> None:
    """Whenever it comes: the thread may be faster than the caller, which then is not waiting yet."""
    seen: list[str] = []

    async def work() -> None:
        asyncio.get_running_loop().call_soon(signal.pthread_kill, main, signal.SIGINT)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            seen.append("cleaned up")

    main = threading.get_ident()
    with LoopThread.running() as loop:
        with pytest.raises(KeyboardInterrupt):
            loop.wait(work())
        assert seen == ["cleaned up"]
        assert loop.wait(asyncio.sleep(0, "still works")) == "still works"


def test_errors_are_those_of_the_coroutine() -> None:
    async def fail() -> None:
        raise LookupError("that")

    with LoopThread.running() as loop, pytest.raises(LookupError, match="that"):
        loop.wait(fail())


def test_iterating_stops_early() -> None:
    ended = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(10):
                yield number
        finally:
            ended.append(True)

    with LoopThread.running() as loop:
        found = loop.iterate(numbers())
        assert [next(found), next(found)] == [0, 1]
        found.close()  # type: ignore[attr-defined]
        assert ended
        assert list(loop.iterate(numbers())) == list(range(10))


def test_a_closed_loop_runs_nothing() -> None:
    loop = LoopThread()
    loop.close()
    with pytest.raises(RuntimeError):
        loop.wait(asyncio.sleep(0))


def test_waiting_in_the_thread_of_the_loop_is_an_error() -> None:
    with LoopThread.running() as loop:

        async def nested() -> None:
            loop.wait(asyncio.sleep(0))

        with pytest.raises(RuntimeError, match="a callback of a blocking client cannot call that client"):
            loop.wait(nested())
