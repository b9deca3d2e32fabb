from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.progress import (
    CoalescingQueue,
    StatusUpdate,
    Vertex,
    VertexLog,
    VertexStatus,
    VertexWarning,
)
from tests.unit.progress import streams


def log(data: bytes, vertex: str = "v") -> StatusUpdate:
    return StatusUpdate(logs=(VertexLog(vertex, data),))


async def drain(queue: CoalescingQueue) -> list[StatusUpdate]:
    queue.close()
    return [update async for update in queue]


async def test_waiting_updates_are_merged_into_one_message() -> None:
    queue = CoalescingQueue()
    started, done = Vertex("v", "name"), Vertex("v", "name", cached=True)
    queue.put(StatusUpdate(vertexes=(started,)))
    for current in range(1000):
        queue.put(
            StatusUpdate(
                statuses=(VertexStatus("a", "v", current=current), VertexStatus("a", "w", current=-current))
            )
        )
    queue.put(StatusUpdate(vertexes=(done,), warnings=(VertexWarning("v", "odd"),)))
    assert await drain(queue) == [
        StatusUpdate(
            vertexes=(started, done),
            statuses=(VertexStatus("a", "v", current=999), VertexStatus("a", "w", current=-999)),
            warnings=(VertexWarning("v", "odd"),),
        )
    ]


async def test_a_reader_that_keeps_up_gets_every_update() -> None:
    queue = CoalescingQueue()
    received: list[StatusUpdate] = []

    async def read() -> None:
        received.extend([update async for update in queue])

    reader = asyncio.create_task(read())
    sent = streams.updates("many-copy")
    for update in sent:
        queue.put(update)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    queue.close()
    await reader
    assert received == sent


async def test_nothing_follows_after_close() -> None:
    queue = CoalescingQueue()
    queue.put(log(b"before"))
    queue.close()
    queue.put(log(b"after"))
    assert await queue.get() == log(b"before")
    assert await queue.get() is None
    assert await queue.get() is None


async def test_empty_updates_do_not_wake_the_reader() -> None:
    queue = CoalescingQueue()
    queue.put(StatusUpdate())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.01)


async def test_too_much_output_loses_its_beginning_and_says_so() -> None:
    queue = CoalescingQueue(log_limit=10)
    for number in range(10):
        queue.put(log(b"line%d\n" % number))
    queue.put(log(b"x\n", vertex="other"))
    [update] = await drain(queue)
    assert [(entry.vertex, entry.data) for entry in update.logs] == [
        ("v", b"[output dropped, the reader was too slow: 54 bytes in 9 messages]\n"),
        ("v", b"line9\n"),
        ("other", b"x\n"),
    ]


async def test_the_note_about_lost_output_begins_on_a_line_of_its_own() -> None:
    queue = CoalescingQueue(log_limit=4)
    queue.put(log(b"open"))
    await queue.get()
    queue.put(log(b"lost"))
    queue.put(log(b"kept", vertex="other"))
    [update] = await drain(queue)
    assert [(entry.vertex, entry.data) for entry in update.logs] == [
        ("other", b"kept"),
        ("v", b"\n[output dropped, the reader was too slow: 4 bytes in 1 message]\n"),
    ]


async def test_the_end_of_an_overlong_message_is_kept() -> None:
    queue = CoalescingQueue(log_limit=4)
    queue.put(log(b"0123456789"))
    [update] = await drain(queue)
    assert [entry.data for entry in update.logs] == [
        b"[output dropped, the reader was too slow: 6 bytes in 1 message]\n",
        b"6789",
    ]


async def test_a_cancelled_reader_loses_nothing() -> None:
    queue = CoalescingQueue()
    reader = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.put(log(b"text"))
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await queue.get() == log(b"text")


async def test_a_reader_that_pauses_reads_on_when_nothing_follows() -> None:
    queue = CoalescingQueue()
    pause = asyncio.create_task(queue.pause(3600))
    queue.put(log(b"text"))
    await asyncio.sleep(0)
    assert not pause.done()
    queue.close()
    await pause
    assert await queue.get() == log(b"text")


@given(st.lists(st.tuples(st.sampled_from("vw"), st.binary(max_size=6)), max_size=40), st.integers(1, 20))
def test_output_is_bounded_and_its_end_is_kept(chunks: list[tuple[str, bytes]], limit: int) -> None:
    async def run() -> list[VertexLog]:
        queue = CoalescingQueue(log_limit=limit)
        for vertex, data in chunks:
            queue.put(log(data, vertex))
        return [entry for update in await drain(queue) for entry in update.logs]

    output = [entry for entry in asyncio.run(run()) if b"[output dropped" not in entry.data]
    assert sum(len(entry.data) for entry in output) <= limit
    for vertex in "vw":
        sent = b"".join(data for owner, data in chunks if owner == vertex)
        kept = b"".join(entry.data for entry in output if entry.vertex == vertex)
        assert sent.endswith(kept)
    total = sum(len(data) for _, data in chunks)
    if total <= limit:
        assert [(entry.vertex, entry.data) for entry in output] == chunks
