"""Channels over frames, against a server of gRPC's: what a stub does with one, it can do with the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import grpc
import grpc.aio
import pytest

from exporter.errors import DataLossError, NotFoundError, ResourceExhaustedError, UnavailableError
from exporter.pb.containerd.services.content.v1 import content_pb2, content_pb2_grpc
from exporter.rpc.calls import CallStream, StreamCall
from exporter.rpc.channel import FrameChannel
from exporter.rpc.http2.calling import Caller
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.sockets import Scheduler, dialling
from exporter.rpc.server import open_server
from exporter.rpc.session.tunnel import started
from exporter.rpc.status import from_rpc_error
from tests.sessions import PATIENCE, until

Context = Any
LARGE = bytes(1 << 20)


class Content(content_pb2_grpc.ContentServicer):
    """Has a blob of some size, and takes any."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}
        self.remaining: float | None = None
        self.stalled = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def Info(self, request: content_pb2.InfoRequest, context: Context) -> content_pb2.InfoResponse:  # noqa: N802
        self.metadata = dict(context.invocation_metadata())
        self.remaining = context.time_remaining()
        if request.digest == "none":
            raise NotFoundError("there is none: ä\n", field="digest")
        if request.digest == "stall":
            await self._stall()
        await context.send_initial_metadata((("initial", "1"), ("initial-bin", b"\xff")))
        context.set_trailing_metadata((("trailing", "2"),))
        return content_pb2.InfoResponse(info=content_pb2.Info(digest=request.digest, size=7))

    async def Read(  # noqa: N802
        self, request: content_pb2.ReadContentRequest, context: Context
    ) -> AsyncIterator[content_pb2.ReadContentResponse]:
        for number in range(request.size):
            yield content_pb2.ReadContentResponse(offset=number, data=bytes([number % 256]) * len(LARGE))
        if request.digest == "broken":
            raise DataLossError("it is lost")

    async def Write(  # noqa: N802
        self, request_iterator: AsyncIterator[content_pb2.WriteContentRequest], context: Context
    ) -> AsyncIterator[content_pb2.WriteContentResponse]:
        async for request in request_iterator:
            if request.ref == "refuse":
                raise ResourceExhaustedError("disk full")
            if request.ref == "enough":
                return
            if request.ref == "stall":
                await self._stall()
            yield content_pb2.WriteContentResponse(offset=len(request.data))

    async def _stall(self) -> None:
        self.stalled.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


class Peer:
    def __init__(
        self,
        service: Content,
        server: grpc.aio.Server,
        channel: FrameChannel,
        connection: Connection,
        path: str,
    ) -> None:
        self.service = service
        self.server = server
        self.channel = channel
        self.connection = connection
        self.path = path
        self.stub: Any = content_pb2_grpc.ContentStub(channel)


@asynccontextmanager
async def peers(*, options: tuple[tuple[str, int], ...] = (), **words: Any) -> AsyncIterator[Peer]:
    service: Any = Content()  # type: ignore[abstract]  # has what the tests call
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            open_server((("grpc.max_receive_message_length", -1), *options))
        )
        content_pb2_grpc.add_ContentServicer_to_server(service, server)
        path = await stack.enter_async_context(started(server))
        connect = partial(asyncio.get_running_loop().create_unix_connection, path=path)
        _, protocol = await connect(dialling(Scheduler()))
        assert protocol.connection is not None
        stack.callback(protocol.connection.close)
        channel = FrameChannel(Caller(protocol.connection), **words)
        yield Peer(service, server, await stack.enter_async_context(channel), protocol.connection, path)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with peers() as peer, asyncio.timeout(PATIENCE):
        yield peer


async def test_a_call_with_one_response(peer: Peer) -> None:
    metadata = (("k", "v"), ("k-bin", b"\x00\xff"))
    call = peer.stub.Info(content_pb2.InfoRequest(digest="d"), metadata=metadata, timeout=PATIENCE)
    response = await call
    assert (response.info.digest, response.info.size) == ("d", 7)
    assert await call.code() is grpc.StatusCode.OK
    assert {("initial", "1"), ("initial-bin", b"\xff")} <= set(await call.initial_metadata())
    assert ("trailing", "2") in tuple(await call.trailing_metadata())
    assert (peer.service.metadata["k"], peer.service.metadata["k-bin"]) == ("v", b"\x00\xff")
    assert peer.service.remaining is not None
    assert PATIENCE / 2 < peer.service.remaining <= PATIENCE
    assert call.done()
    assert not call.cancelled()


async def test_failures_are_those_of_grpcs_own_channel(peer: Peer) -> None:
    request = content_pb2.InfoRequest(digest="none")
    errors = []
    async with grpc.aio.insecure_channel(f"unix:{peer.path}") as theirs:
        for channel in (peer.channel, theirs):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await content_pb2_grpc.ContentStub(channel).Info(request)
            errors.append(caught.value)
    ours, gold = errors
    assert (ours.code(), ours.details()) == (gold.code(), gold.details())
    assert sorted(ours.trailing_metadata()) == sorted(gold.trailing_metadata())
    error = from_rpc_error(ours)
    assert isinstance(error, NotFoundError)
    assert (error.message, error.field) == ("there is none: ä\n", "digest")


async def test_many_responses(peer: Peer) -> None:
    request = content_pb2.ReadContentRequest(size=40)
    offsets = [message.offset async for message in peer.stub.Read(request)]
    assert offsets == list(range(40))


async def test_responses_before_a_failure(peer: Peer) -> None:
    call = peer.stub.Read(content_pb2.ReadContentRequest(digest="broken", size=3))
    offsets = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for message in call:
            offsets.append(message.offset)  # noqa: PERF401
    assert offsets == [0, 1, 2]
    assert isinstance(from_rpc_error(caught.value), DataLossError)


@pytest.mark.parametrize("how", ["iterator", "asynchronous iterator", "writes"])
async def test_messages_both_ways(peer: Peer, how: str) -> None:
    requests = [content_pb2.WriteContentRequest(data=LARGE[: 1 << number]) for number in range(21)]

    async def produced() -> AsyncIterator[content_pb2.WriteContentRequest]:
        for request in requests:
            yield request

    if how == "writes":
        call = peer.stub.Write()
        for request in requests:
            await call.write(request)
        await call.done_writing()
    else:
        call = peer.stub.Write(iter(requests) if how == "iterator" else produced())
    assert [message.offset async for message in call] == [1 << number for number in range(21)]
    assert await call.read() is grpc.aio.EOF


async def test_requests_that_fail_cancel_the_call(peer: Peer) -> None:
    async def requests() -> AsyncIterator[content_pb2.WriteContentRequest]:
        yield content_pb2.WriteContentRequest(ref="stall")
        await peer.service.stalled.wait()
        raise ZeroDivisionError

    call = peer.stub.Write(requests())
    assert await call.code() is grpc.StatusCode.CANCELLED
    await peer.service.cancelled.wait()


async def test_a_writer_gets_the_peers_status(peer: Peer) -> None:
    for ref, kind in (("refuse", ResourceExhaustedError), ("enough", type(None))):
        call = StreamCall(peer.stub.Write())
        while await call.send(content_pb2.WriteContentRequest(ref=ref, data=LARGE)):
            pass
        error = await call.ended_with()
        assert isinstance(None if error is None else from_rpc_error(error), kind)
        assert not await call.send(content_pb2.WriteContentRequest())


async def test_several_tasks_write_at_once(peer: Peer) -> None:
    method: Any = peer.channel.stream_stream("/containerd.services.content.v1.Content/Write")
    stream = CallStream(method(), "writing")
    messages = [content_pb2.WriteContentRequest(data=LARGE[:size]) for size in range(20)]
    async with asyncio.TaskGroup() as tasks:
        for message in messages:
            tasks.create_task(stream.write(message.SerializeToString()))
        sizes = {len(message.data) for message in messages}
        found = set()
        for _ in messages:
            data = await stream.read()
            assert isinstance(data, bytes)
            found.add(content_pb2.WriteContentResponse.FromString(data).offset)
    assert found == sizes
    await stream.finish()


@pytest.mark.parametrize("how", ["cancelled", "its task is cancelled", "its writer is cancelled", "late"])
async def test_an_abandoned_call_is_cancelled_at_the_server(peer: Peer, how: str) -> None:
    timeout = 0.2 if how == "late" else None
    if how == "its writer is cancelled":
        call = peer.stub.Write()

        async def write() -> None:
            while True:
                await call.write(content_pb2.WriteContentRequest(ref="stall", data=LARGE))

        task: asyncio.Task[Any] = asyncio.create_task(write())
    else:
        call = peer.stub.Info(content_pb2.InfoRequest(digest="stall"), timeout=timeout)

        async def wait() -> None:
            await call

        task = asyncio.create_task(wait())
    await peer.service.stalled.wait()
    if how == "cancelled":
        assert call.cancel()
    elif how != "late":
        task.cancel()
    (ended,), _ = await asyncio.wait((task,))
    if how == "late":
        assert isinstance(ended.exception(), grpc.aio.AioRpcError)
    else:
        assert ended.cancelled()
    await peer.service.cancelled.wait()
    expected = grpc.StatusCode.DEADLINE_EXCEEDED if how == "late" else grpc.StatusCode.CANCELLED
    assert await call.code() is expected
    assert call.cancelled() is (how != "late")
    assert (await peer.stub.Info(content_pb2.InfoRequest(digest="d"))).info.size == 7


async def test_a_server_that_does_not_read_makes_the_writer_wait(peer: Peer) -> None:
    call = peer.stub.Write()
    sent = 0

    async def write() -> None:
        nonlocal sent
        while True:
            await call.write(content_pb2.WriteContentRequest(ref="stall", data=LARGE))
            sent += 1

    writing = asyncio.create_task(write())
    await peer.service.stalled.wait()
    before = -1
    while sent != before:
        before = sent
        await asyncio.sleep(0.1)
    assert not writing.done()
    assert sent < 32
    call.cancel()
    await asyncio.wait((writing,))
    assert writing.cancelled()


async def test_a_response_that_is_too_large() -> None:
    async with peers(max_message_bytes=1000) as peer:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await peer.stub.Read(content_pb2.ReadContentRequest(size=1)).read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await peer.stub.Info(content_pb2.InfoRequest(digest="d"))).info.size == 7


async def test_a_server_with_a_low_limit_of_concurrent_calls() -> None:
    async with peers(options=(("grpc.max_concurrent_streams", 2),)) as peer, asyncio.timeout(PATIENCE):
        await peer.stub.Info(content_pb2.InfoRequest(digest="d"))  # its settings have come
        stalled = [peer.stub.Info(content_pb2.InfoRequest(digest="stall")) for _ in range(2)]
        calls = [peer.stub.Info(content_pb2.InfoRequest(digest=str(number))) for number in range(20)]
        await peer.service.stalled.wait()
        stalled[0].cancel()
        assert [(await call).info.digest for call in calls] == [str(number) for number in range(20)]
        stalled[1].cancel()


@pytest.mark.parametrize("how", ["the connection ends", "the server ends"])
async def test_a_connection_that_is_lost(how: str) -> None:
    async with peers() as peer, asyncio.timeout(PATIENCE):
        call = peer.stub.Info(content_pb2.InfoRequest(digest="stall"))
        await peer.service.stalled.wait()
        if how == "the connection ends":
            peer.connection.close()
        else:
            await peer.server.stop(None)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert isinstance(from_rpc_error(caught.value), UnavailableError)
        if how == "the connection ends":
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await peer.stub.Info(content_pb2.InfoRequest())
            error = from_rpc_error(caught.value, "asking")
            assert isinstance(error, UnavailableError)
            assert error.message == "asking: the connection is closed"
            assert peer.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_closing_a_channel_cancels_only_its_calls() -> None:
    async with peers() as peer, asyncio.timeout(PATIENCE):
        other = FrameChannel(Caller(peer.connection))
        async with other:
            stub: Any = content_pb2_grpc.ContentStub(other)
            call = stub.Info(content_pb2.InfoRequest(digest="stall"))

            async def requests() -> AsyncIterator[content_pb2.WriteContentRequest]:
                await asyncio.Event().wait()
                yield content_pb2.WriteContentRequest()

            sending = stub.Write(requests())
            await peer.service.stalled.wait()
        assert call.cancelled()
        assert sending.cancelled()
        await peer.service.cancelled.wait()
        with pytest.raises(grpc.aio.UsageError):
            stub.Info(content_pb2.InfoRequest())
        assert (await peer.stub.Info(content_pb2.InfoRequest(digest="d"))).info.size == 7


async def test_no_task_is_left_of_calls_that_have_ended(peer: Peer) -> None:
    before = len(asyncio.all_tasks())
    for _ in range(5):
        requests = iter([content_pb2.WriteContentRequest(ref="refuse", data=LARGE)] * 9)
        assert await peer.stub.Write(requests).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await until(lambda: len(asyncio.all_tasks()) <= before)


async def test_done_callbacks_run_once(peer: Peer) -> None:
    call = peer.stub.Info(content_pb2.InfoRequest(digest="d"))
    told: list[Any] = []
    call.add_done_callback(told.append)
    await call
    call.add_done_callback(told.append)
    assert told == [call, call]


@pytest.mark.parametrize(
    "item", [("K", "v"), ("k", "a\nb"), ("k", b"v"), ("k-bin", "v"), ("k", "ä"), ("", "v")]
)
async def test_invalid_metadata_is_refused(peer: Peer, item: tuple[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        peer.stub.Info(content_pb2.InfoRequest(), metadata=(item,))
