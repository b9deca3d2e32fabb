"""Processing a stream of bytes in a thread, with input from and output to the event loop.

Decoders, hashes and tar code are blocking and pull their input, while stores and providers are asynchronous.
Two bounded channels connect them: backpressure keeps either side from running ahead and bounds memory.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import TypeVar

from exporter.layer.streams import Readable, Writable

T = TypeVar("T")

CHANNEL_SIZE = 4 << 20
"""Bytes in a channel at which its writer blocks."""


async def run_piped(
    work: Callable[[Readable, Writable], T],
    source: AsyncIterator[bytes],
    sink: Callable[[bytes], Awaitable[None]],
    executor: Executor,
    on_input: Callable[[int], None] | None = None,
) -> T:
    """Run `work` in a thread, with `source` as its input and `sink` as its output.

    Returns when the work is done and `sink` has consumed all output. Input that the work does not read is not
    fetched. On failure or cancellation, the work's next read or write raises; `run_piped` itself raises only
    after the thread has ended.

    Args:
        work: Reads its input and writes its output, blocking.
        source: The input; closed at the end.
        sink: Receives the output, in order.
        executor: Runs `work`. It must not be an executor that `source` or `sink` depend on.
        on_input: Called with the size of each chunk of input.

    Raises:
        Exception: whatever the work, the source or the sink raised first.
    """
    inbound, outbound = _Channel(), _Channel()
    job = asyncio.get_running_loop().run_in_executor(executor, _run, work, inbound, outbound)

    async def wait() -> T:
        return await asyncio.shield(job)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_feed(source, inbound, on_input))
            group.create_task(_empty(outbound, sink))
            result = group.create_task(wait())
        return result.result()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        inbound.abort(_AbandonedError())
        outbound.abort(_AbandonedError())
        await _ended(job)


async def discard(data: bytes) -> None:
    """A sink that discards its input."""


async def _feed(
    source: AsyncIterator[bytes], channel: _Channel, on_input: Callable[[int], None] | None
) -> None:
    try:
        async for data in source:
            await channel.send(data)
            if on_input is not None:
                on_input(len(data))
        channel.close()
    except _AbandonedError:
        return  # the work needs no more input
    except Exception as error:
        channel.abort(error)
        raise
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


async def _empty(channel: _Channel, sink: Callable[[bytes], Awaitable[None]]) -> None:
    while data := await channel.receive():
        await sink(data)


def _run(work: Callable[[Readable, Writable], T], inbound: _Channel, outbound: _Channel) -> T:
    try:
        result = work(_ChannelReader(inbound), outbound)
    except BaseException as error:
        inbound.abort(error)
        outbound.abort(error)
        raise
    inbound.abort(_AbandonedError())
    outbound.close()
    return result


async def _ended(job: asyncio.Future[T]) -> None:
    """Wait for the thread to end, even when cancelled."""
    while not job.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([job])
    if not job.cancelled():
        job.exception()  # mark it as retrieved; the caller gets the first error


class _AbandonedError(Exception):
    """The other side has stopped. Internal to this module."""


class _Channel:
    """A channel of bytes between the event loop and a thread, with one writer and one reader.

    `send` and `receive` are the event loop's side, `write` and `take` the thread's.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._wake_up = asyncio.Event()
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._closed = False
        self._error: BaseException | None = None

    async def send(self, data: bytes) -> None:
        """Add `data`, waiting while the channel is full."""
        while not self._try_put(data):
            self._wake_up.clear()
            await self._wake_up.wait()

    async def receive(self) -> bytes:
        """Wait for the next chunk and return it; empty at the end."""
        while (data := self._try_take()) is None:
            self._wake_up.clear()
            await self._wake_up.wait()
        return data

    def write(self, data: bytes) -> None:
        """Like `send`, for the thread."""
        with self._changed:
            while not self._try_put(data):
                self._changed.wait()
        self._notify_loop()

    def take(self) -> bytes:
        """Like `receive`, for the thread."""
        with self._changed:
            while (data := self._try_take()) is None:
                self._changed.wait()
        self._notify_loop()
        return data

    def close(self) -> None:
        """Mark the end of the data."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._notify_loop()

    def abort(self, error: BaseException) -> None:
        """Make both sides fail with `error`, unless the channel was aborted before."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()
        self._notify_loop()

    def _try_put(self, data: bytes) -> bool:
        with self._changed:
            if self._error is not None:
                raise self._error
            if self._size >= CHANNEL_SIZE:
                return False
            if data:
                self._pieces.append(data)
                self._size += len(data)
                self._changed.notify_all()
            return True

    def _try_take(self) -> bytes | None:
        with self._changed:
            if self._error is not None:
                raise self._error
            if not self._pieces:
                return b"" if self._closed else None
            data = self._pieces.popleft()
            self._size -= len(data)
            self._changed.notify_all()
            return data

    def _notify_loop(self) -> None:
        with suppress(RuntimeError):  # the loop may be closed before the thread ends
            self._loop.call_soon_threadsafe(self._wake_up.set)


class _ChannelReader:
    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        if not self._rest:
            self._rest = memoryview(self._channel.take())
        data, self._rest = self._rest[:size], self._rest[size:]
        return bytes(data)
