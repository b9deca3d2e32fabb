"""Answering calls on HTTP/2 streams; owns the tasks of their handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import grpc
import grpc.aio

from exporter.rpc.http2.grpc import path_of
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.messages import MAX_MESSAGE_BYTES
from exporter.rpc.http2.served import ServedCall
from exporter.rpc.http2.stream import Stream
from exporter.rpc.status import abort

Answer = Callable[[ServedCall], Awaitable[None]]
"""Answers a call. An exception becomes the call's status."""


class Answering:
    """The calls that we answer. Made by `open`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Answering]:
        """Start answering. On exit, cancel the calls in flight and wait for their handlers."""
        answering = cls()
        try:
            yield answering
        finally:
            for task in answering._tasks:
                if not task.cancelling():  # a second cancellation would interrupt its cleanup
                    task.cancel()
            if answering._tasks:
                await asyncio.wait(answering._tasks)

    def answer(
        self,
        stream: Stream,
        headers: Headers,
        answer: Answer,
        *,
        end: bool,
        first: bytes = b"",
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        """Answer a call.

        Args:
            stream: The call's stream.
            headers: Its headers.
            answer: Answers it.
            end: Whether the caller has half-closed the stream, after `first` if that is given.
            first: DATA that was already read from the stream, and whose credit was returned.
            max_message_bytes: Maximum size of a request.
        """
        call = ServedCall(stream, headers, end=end and not first, max_message_bytes=max_message_bytes)
        task = asyncio.get_running_loop().create_task(_run(call, answer), name=path_of(headers))
        call.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if first:
            call.on_data([first], 0, end=end)


async def _run(call: ServedCall, answer: Answer) -> None:
    try:
        await answer(call)
    except asyncio.CancelledError:
        call.cancel()
        raise
    except grpc.aio.AbortError:
        pass  # the status is already set
    except BaseException as error:
        if not call.done():  # otherwise the caller is gone, and a write failed
            with suppress(grpc.aio.AbortError):
                await abort(call, error)
    call.finish()
