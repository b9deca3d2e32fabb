from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from exporter.errors import NotFoundError
from exporter.layer.pipe import CHANNEL_SIZE, discard, run_piped
from exporter.layer.streams import Readable, Writable, drain


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    executor = ThreadPoolExecutor(1)
    yield executor
    executor.shutdown(wait=True)  # not before all work has ended


def copy(source: Readable, sink: Writable) -> int:
    total = 0
    while data := source.read(100_000):
        sink.write(data)
        total += len(data)
    return total


class Source:
    """Yields pieces, and records how many were read and whether it was closed."""

    def __init__(self, count: int, size: int, error: Exception | None = None) -> None:
        self.given = 0
        self.closed = False
        self._count, self._size, self._error = count, size, error

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            for number in range(self._count):
                self.given += 1
                yield number.to_bytes(4, "big") * (self._size // 4)
                await asyncio.sleep(0)
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True


async def test_bytes_come_through_in_order(executor: ThreadPoolExecutor) -> None:
    out = bytearray()
    inputs: list[int] = []

    async def sink(data: bytes) -> None:
        out.extend(data)

    source = Source(300, 40_000)
    total = await run_piped(copy, source.pieces(), sink, executor, inputs.append)
    assert total == len(out) == sum(inputs) == 300 * 40_000
    assert bytes(out) == b"".join(number.to_bytes(4, "big") * 10_000 for number in range(300))
    assert source.closed


async def test_the_source_does_not_run_ahead(executor: ThreadPoolExecutor) -> None:
    release = threading.Event()

    def slow(source: Readable, sink: Writable) -> None:
        source.read(1)
        release.wait(20)
        drain(source)

    source = Source(1000, 1 << 20)
    task = asyncio.create_task(run_piped(slow, source.pieces(), discard, executor))
    for _ in range(200):
        await asyncio.sleep(0.001)
    assert source.given <= CHANNEL_SIZE // (1 << 20) + 3
    release.set()
    await task
    assert source.given == 1000


async def test_the_work_does_not_run_ahead(executor: ThreadPoolExecutor) -> None:
    written = 0
    release = asyncio.Event()

    def work(source: Readable, sink: Writable) -> None:
        nonlocal written
        for _ in range(100):
            sink.write(bytes(1 << 20))
            written += 1

    async def sink(data: bytes) -> None:
        await release.wait()

    task = asyncio.create_task(run_piped(work, Source(0, 0).pieces(), sink, executor))
    for _ in range(200):
        await asyncio.sleep(0.001)
    assert written <= CHANNEL_SIZE // (1 << 20) + 2
    release.set()
    await task
    assert written == 100


async def test_an_error_of_the_source_ends_the_work(executor: ThreadPoolExecutor) -> None:
    source = Source(3, 100, NotFoundError("blob gone"))
    with pytest.raises(NotFoundError, match="blob gone"):
        await run_piped(copy, source.pieces(), discard, executor)


async def test_an_error_of_the_sink_ends_the_work(executor: ThreadPoolExecutor) -> None:
    async def sink(data: bytes) -> None:
        raise OSError("disk full")

    source = Source(10_000, 1 << 20)
    with pytest.raises(OSError, match="disk full"):
        await run_piped(copy, source.pieces(), sink, executor)
    assert source.closed


async def test_an_error_of_the_work_ends_the_source(executor: ThreadPoolExecutor) -> None:
    def fail(source: Readable, sink: Writable) -> None:
        source.read(1)
        raise ValueError("bad bytes")

    source = Source(10_000, 1 << 20)
    with pytest.raises(ValueError, match="bad bytes"):
        await run_piped(fail, source.pieces(), discard, executor)
    assert source.closed
    assert source.given < 10_000


async def test_cancellation_ends_everything(executor: ThreadPoolExecutor) -> None:
    started = asyncio.Event()

    async def sink(data: bytes) -> None:
        started.set()
        await asyncio.sleep(3600)

    source = Source(10_000, 1 << 20)
    task = asyncio.create_task(run_piped(copy, source.pieces(), sink, executor))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.closed


async def test_work_may_stop_reading(executor: ThreadPoolExecutor) -> None:
    source = Source(10_000, 1 << 20)
    assert await run_piped(lambda source, sink: source.read(4), source.pieces(), discard, executor) == bytes(
        4
    )
    assert source.closed
