from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from exporter.errors import ExporterError, ResourceExhaustedError, UnavailableError
from exporter.rpc.calls import CallStream, StreamCall
from exporter.rpc.status import from_rpc_error
from tests.sessions import PATIENCE, serving

Context = grpc.aio.ServicerContext[Any, Any]

TIMES = 50
LARGE = bytes(1 << 20)


async def refuse(_: object, context: Context) -> None:
    """Reads one message."""
    await context.read()
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "disk full", (("why", "big"),))


async def leave(_: object, context: Context) -> None:
    """Reads one message, and ends the call with OK."""
    await context.read()


async def echo(_: object, context: Context) -> None:
    while isinstance(message := await context.read(), bytes):
        await context.write(message)


@asynccontextmanager
async def peer(handler: Any) -> AsyncIterator[grpc.aio.StreamStreamMultiCallable[bytes, bytes]]:
    """A method with the given handler."""

    def register(server: grpc.aio.Server) -> None:
        handlers: dict[str, Any] = {"Method": grpc.stream_stream_rpc_method_handler(handler)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Service", handlers),))

    async with serving(register) as channel:
        yield channel.stream_stream("/Service/Method")


async def send_until_the_end(call: StreamCall) -> None:
    while await call.send(bytes(1000)):
        pass


async def error_of(call: StreamCall, doing: str) -> ExporterError | None:
    error = await call.ended_with()
    return None if error is None else from_rpc_error(error, doing)


async def test_a_writer_gets_the_peers_status() -> None:
    async with peer(refuse) as method:
        for _ in range(TIMES):
            call = StreamCall(method())
            await send_until_the_end(call)
            error = await call.ended_with()
            assert error is not None
            assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "disk full")
            assert ("why", "big") in tuple(error.trailing_metadata())
            told = await error_of(call, "sending it")
            assert isinstance(told, ResourceExhaustedError)
            assert told.message == "sending it: disk full"


async def test_an_early_ok_status_is_not_an_error() -> None:
    async with peer(leave) as method:
        for _ in range(TIMES):
            call = StreamCall(method())
            await send_until_the_end(call)
            assert await call.ended_with() is None
            assert await error_of(call, "sending it") is None


async def test_a_peer_that_cannot_be_reached() -> None:
    async with grpc.aio.insecure_channel("unix:/nowhere/at-all") as channel:
        method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/Service/Method")
        call = StreamCall(method())
        assert not await call.send(b"")
        assert isinstance(await error_of(call, "sending it"), UnavailableError)


async def test_ending_a_call_that_the_peer_is_ending() -> None:
    for handler, kind in ((refuse, ResourceExhaustedError), (leave, type(None))):
        async with peer(handler) as method:
            for _ in range(TIMES):
                call = StreamCall(method())
                await call.send(b"")
                await call.send_end()
                assert isinstance(await error_of(call, ""), kind)


async def test_a_cancelled_writer_cancels_the_call() -> None:
    async def stall(_: object, context: Context) -> None:
        await asyncio.Event().wait()

    async with peer(stall) as method:
        call = method()
        sending = StreamCall(call)
        writer = asyncio.create_task(send_until_the_end(sending))
        await call.wait_for_connection()
        writer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writer
        error = await sending.ended_with()
        assert error is not None
        assert error.code() is grpc.StatusCode.CANCELLED


async def test_several_tasks_write_to_a_stream() -> None:
    async with peer(echo) as method:
        call = method()
        stream = CallStream(call, "sending it")
        messages = [bytes([number]) * len(LARGE) for number in range(20)]

        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            for message in messages:
                tasks.create_task(stream.write(message))
            assert {await stream.read() for _ in messages} == set(messages)
        await stream.finish()


async def test_a_stream_raises_the_error_that_ended_it() -> None:
    async with peer(refuse) as method:
        stream = CallStream(method(), "sending it")
        with pytest.raises(ResourceExhaustedError, match="sending it: disk full"):
            while True:
                await stream.write(LARGE)
        with pytest.raises(ResourceExhaustedError, match="sending it: disk full"):
            await stream.read()
        with pytest.raises(ResourceExhaustedError, match="sending it: disk full"):
            await stream.finish()


async def test_a_stream_that_nobody_reads_any_more() -> None:
    async with peer(leave) as method:
        stream = CallStream(method(), "sending it")
        with pytest.raises(UnavailableError, match="ended the call early"):
            while True:
                await stream.write(LARGE)
        await stream.finish()
