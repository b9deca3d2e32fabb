from __future__ import annotations

import asyncio

import pytest

from exporter.engine.jobs import ClientGoneError, Jobs
from exporter.errors import UnavailableError
from exporter.progress.model import StatusSink, StatusUpdate, Vertex, VertexLog, VertexStatus


def log(number: int) -> StatusUpdate:
    return StatusUpdate(logs=(VertexLog("v", f"{number}\n".encode()),))


async def test_all_progress_is_sent_before_the_result() -> None:
    sent: list[StatusUpdate] = []

    async def work(sink: StatusSink) -> str:
        for number in range(1000):
            sink(StatusUpdate(statuses=(VertexStatus("s", "v", current=number),)))
            if number % 100 == 0:
                await asyncio.sleep(0)
        sink(StatusUpdate(vertexes=(Vertex("v", "name"),)))
        return "done"

    async def send(update: StatusUpdate) -> None:
        sent.append(update)

    assert await Jobs().run(work, send) == "done"
    assert sent[-1].statuses[-1].current == 999
    assert sent[-1].vertexes == (Vertex("v", "name"),)
    assert sum(len(update.statuses) for update in sent) < 20, "statuses are merged, not queued"


async def test_progress_of_a_failure_is_sent_before_it_is_raised() -> None:
    sent: list[StatusUpdate] = []

    async def work(sink: StatusSink) -> None:
        sink(log(1))
        raise RuntimeError("boom")

    async def send(update: StatusUpdate) -> None:
        sent.append(update)

    with pytest.raises(RuntimeError, match="boom"):
        await Jobs().run(work, send)
    assert [entry.data for update in sent for entry in update.logs] == [b"1\n"]


async def test_a_slow_reader_neither_blocks_the_work_nor_grows_memory() -> None:
    finished, may_read = asyncio.Event(), asyncio.Event()
    received: list[StatusUpdate] = []

    async def work(sink: StatusSink) -> None:
        for number in range(10_000):
            sink(StatusUpdate(statuses=(VertexStatus("s", "v", current=number),)))
            sink(StatusUpdate(logs=(VertexLog("v", b"x" * 1023 + b"\n"),)))
            if number % 1000 == 0:
                await asyncio.sleep(0)
        finished.set()

    async def send(update: StatusUpdate) -> None:
        await may_read.wait()
        received.append(update)

    call = asyncio.create_task(Jobs().run(work, send))
    await finished.wait()
    may_read.set()
    await call
    assert received[-1].statuses[-1].current == 9999
    assert sum(len(entry.data) for update in received for entry in update.logs) < 3 << 20


async def test_cancelling_waits_until_the_work_has_cleaned_up() -> None:
    jobs, started, cleaned = Jobs(), asyncio.Event(), False

    async def work(sink: StatusSink) -> None:
        nonlocal cleaned
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            cleaned = True

    call = asyncio.create_task(jobs.run(work, _discard))
    await started.wait()
    call.cancel()
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert cleaned
    assert len(jobs) == 0


async def test_a_disconnected_caller_cancels_the_work() -> None:
    jobs, cancelled = Jobs(), False

    async def work(sink: StatusSink) -> None:
        nonlocal cancelled
        sink(log(1))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise

    async def send(update: StatusUpdate) -> None:
        raise RuntimeError("as gRPC does")

    with pytest.raises(ClientGoneError):
        await jobs.run(work, send)
    assert cancelled
    assert len(jobs) == 0


async def test_stopping_ends_running_work_and_refuses_more() -> None:
    jobs, started = Jobs(), asyncio.Event()

    async def work(sink: StatusSink) -> None:
        started.set()
        await asyncio.Event().wait()

    call = asyncio.create_task(jobs.run(work, _discard))
    await started.wait()
    jobs.stop()
    await jobs.wait()
    for attempt in (call, jobs.run(work, _discard)):
        with pytest.raises(UnavailableError):
            await attempt


async def _discard(update: StatusUpdate) -> None:
    pass


async def test_waiting_ends_with_the_last_work() -> None:
    jobs, go_on = Jobs(), asyncio.Event()

    async def work(sink: StatusSink) -> None:
        await go_on.wait()

    await jobs.wait()
    call = asyncio.create_task(jobs.run(work, _discard))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(jobs.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    go_on.set()
    await waiting
    assert len(jobs) == 0
    await call
