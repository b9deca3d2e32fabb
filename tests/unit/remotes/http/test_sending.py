"""Writing the body of a request in flight."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable

import pytest

from exporter.remotes.http.sending import sending


async def collect(body: AsyncIterable[bytes]) -> bytes:
    return b"".join([piece async for piece in body])


async def test_the_body_arrives_piece_by_piece() -> None:
    pieces: list[bytes] = []

    async def send(body: AsyncIterable[bytes]) -> int:
        async for piece in body:
            pieces.append(piece)  # noqa: PERF401
        return len(pieces)

    async with sending(send, stall_seconds=10) as request:
        for piece in (b"a", b"", b"bc"):
            await request.write(piece)
        assert await request.finish() == 2
    assert pieces == [b"a", b"bc"]


async def test_an_empty_body() -> None:
    async with sending(collect, stall_seconds=10) as request:
        assert await request.finish() == b""


async def test_the_writer_gets_backpressure() -> None:
    taken = asyncio.Semaphore(0)
    written = 0

    async def send(body: AsyncIterable[bytes]) -> None:
        async for _ in body:
            await taken.acquire()

    async def write(request: object) -> None:
        nonlocal written
        for _ in range(10):
            await request.write(b"x")  # type: ignore[attr-defined]
            written += 1

    async with sending(send, stall_seconds=10) as request:
        writing = asyncio.create_task(write(request))
        for _ in range(20):
            await asyncio.sleep(0)
        assert written == 2, "one that is being sent, and one that waits"
        for _ in range(10):
            taken.release()
        await writing
        await request.finish()


async def test_a_request_that_fails_fails_its_writer() -> None:
    async def send(body: AsyncIterable[bytes]) -> None:
        async for _ in body:
            raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError, match="gone"):
        async with sending(send, stall_seconds=10) as request:
            for _ in range(3):
                await request.write(b"x")


async def test_a_request_that_fails_at_the_end() -> None:
    async def send(body: AsyncIterable[bytes]) -> None:
        await collect(body)
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError, match="gone"):
        async with sending(send, stall_seconds=10) as request:
            await request.write(b"x")
            await request.finish()


async def test_an_early_response_ends_the_body() -> None:
    async def send(body: AsyncIterable[bytes]) -> str:
        async for _ in body:
            break
        return "enough"

    async with sending(send, stall_seconds=10) as request:
        for _ in range(5):
            await request.write(b"x")
        assert await request.finish() == "enough"


async def test_a_request_that_stalls() -> None:
    async def send(body: AsyncIterable[bytes]) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with sending(send, stall_seconds=0.01) as request:
            await request.write(b"x")
            await request.write(b"x")


@pytest.mark.parametrize("error", [ValueError("source"), asyncio.CancelledError()])
async def test_leaving_early_ends_the_request(error: BaseException) -> None:
    ended = asyncio.Event()

    async def send(body: AsyncIterable[bytes]) -> None:
        try:
            await collect(body)
        finally:
            ended.set()

    with pytest.raises(type(error)):
        async with sending(send, stall_seconds=10) as request:
            await request.write(b"x")
            await asyncio.sleep(0)
            raise error
    assert ended.is_set()


async def test_an_unawaited_failure_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def send(body: AsyncIterable[bytes]) -> None:
        async for _ in body:
            raise ConnectionResetError("gone")

    with pytest.raises(ValueError, match="source"):
        async with sending(send, stall_seconds=10) as request:
            await request.write(b"x")
            await asyncio.sleep(0)
            raise ValueError("source")
    assert caplog.records == []
