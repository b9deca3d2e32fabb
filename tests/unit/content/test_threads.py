from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from exporter.content.threads import StepTimer, run_in_thread


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


async def test_what_a_cancelled_call_raises_is_not_reported_as_forgotten() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    started, go_on = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        go_on.wait()
        raise OSError("nobody hears this")

    task = asyncio.create_task(run_in_thread(work))
    await asyncio.to_thread(started.wait)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    gc.collect()
    await asyncio.sleep(0)
    assert reported == []


def test_steps_last_a_twentieth_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("exporter.content.threads.time.monotonic", lambda: now)
    timer = StepTimer()
    now = 100.04
    assert not timer.is_over()
    now = 100.06
    assert timer.is_over()
    now = 100.10
    assert not timer.is_over()
    now = 100.12
    assert timer.is_over()
