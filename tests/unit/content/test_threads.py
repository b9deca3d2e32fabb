from __future__ import annotations

import asyncio
import threading

import pytest

from exporter.content.threads import run_in_thread


async def test_returns_and_raises_what_the_function_does() -> None:
    assert await run_in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(divmod, 1, 0)


async def test_a_cancelled_call_waits_for_the_end_of_the_thread() -> None:
    started, go_on = threading.Event(), threading.Event()
    finished = []

    def work() -> None:
        started.set()
        go_on.wait()
        finished.append(True)
        raise OSError("nobody hears this")

    task = asyncio.create_task(run_in_thread(work))
    await asyncio.to_thread(started.wait)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert finished == [True]
