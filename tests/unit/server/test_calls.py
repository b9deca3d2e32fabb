"""Connections and calls, as their callers see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from exporter.rpc.address import UnixAddress
from exporter.rpc.listen import accepting
from exporter.rpc.session.services import SessionServices
from exporter.server.calls import CallServer
from tests.sessions import until
from tests.unit.server.running import code_of, within


class Service:
    """Answers what it is sent, once it may."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.may_answer = asyncio.Event()

    async def _echo(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        self.begun += 1
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return request

    def register(self, server: grpc.aio.Server) -> None:
        method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._echo)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Say": method}),))


@asynccontextmanager
async def taking_calls(directory: Path) -> AsyncIterator[tuple[Service, CallServer, str]]:
    service, path = Service(), directory / "s"
    services = SessionServices.of([service.register])
    async with (
        CallServer.open(services, max_message_bytes=100) as calls,
        accepting(calls.protocol, UnixAddress(str(path)), None, insecure=False),
    ):
        yield service, calls, f"unix:{path}"


async def say(channel: grpc.aio.Channel, words: bytes = b"words", method: str = "/test.Echo/Say") -> bytes:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    return await call(words)


async def test_calls_are_answered(tmp_path: Path) -> None:
    async with taking_calls(tmp_path) as (service, _, target), grpc.aio.insecure_channel(target) as channel:
        service.may_answer.set()
        assert await within(say(channel)) == b"words"
        assert await code_of(say(channel, method="/test.Echo/Shout")) is grpc.StatusCode.UNIMPLEMENTED
        assert await code_of(say(channel, b"x" * 101)) is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_stopping_waits_for_all_calls_under_way(tmp_path: Path) -> None:
    async with (
        taking_calls(tmp_path) as (service, calls, target),
        grpc.aio.insecure_channel(target) as channel,
    ):
        said = [asyncio.create_task(say(channel, word)) for word in (b"one", b"two")]
        await until(lambda: service.begun == 2)
        stop = asyncio.create_task(calls.stop(1000))
        async with grpc.aio.insecure_channel(target) as other:
            with pytest.raises(grpc.aio.AioRpcError, match="the server is shutting down"):
                await within(say(other))
        assert not stop.done()
        service.may_answer.set()
        assert [await within(answer) for answer in said] == [b"one", b"two"]
        await within(stop)
    assert not service.cancelled


async def test_one_of_two_calls_that_ends_does_not_end_the_wait(tmp_path: Path) -> None:
    async with (
        taking_calls(tmp_path) as (service, calls, target),
        grpc.aio.insecure_channel(target) as channel,
    ):
        first, second = (asyncio.create_task(say(channel, word)) for word in (b"one", b"two"))
        await until(lambda: service.begun == 2)
        first.cancel()
        await until(lambda: service.cancelled == 1)
        stop = asyncio.create_task(calls.stop(1000))
        done, _ = await asyncio.wait((stop,), timeout=0.05)
        assert not done
        service.may_answer.set()
        assert await within(second) == b"two"
        await within(stop)


async def test_an_idle_server_stops_at_once_and_closes_its_connections(tmp_path: Path) -> None:
    async with (
        taking_calls(tmp_path) as (service, calls, target),
        grpc.aio.insecure_channel(target) as channel,
    ):
        service.may_answer.set()
        await within(say(channel))
        reader, writer = await asyncio.open_unix_connection(target.removeprefix("unix:"))
        await within(reader.readexactly(9))  # the server's settings
        await within(calls.stop(1000))
        assert await within(reader.read())
        writer.close()


async def test_calls_that_take_too_long_are_cancelled(tmp_path: Path) -> None:
    async with (
        taking_calls(tmp_path) as (service, calls, target),
        grpc.aio.insecure_channel(target) as channel,
    ):
        said = asyncio.create_task(code_of(say(channel)))
        await until(lambda: service.begun == 1)
        await within(calls.stop(0.01))
        assert await within(said) is grpc.StatusCode.UNAVAILABLE
        await until(lambda: service.cancelled == 1)


async def test_the_end_of_the_block_closes_connections(tmp_path: Path) -> None:
    async with taking_calls(tmp_path) as (_, _, target):
        reader, writer = await asyncio.open_unix_connection(target.removeprefix("unix:"))
        await within(reader.readexactly(9))
    await within(reader.read())
    writer.close()
