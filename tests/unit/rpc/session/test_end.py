"""Streaming methods of a session, answered with and without gRPC."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import empty_pb2

from exporter.errors import DataLossError, UnavailableError
from exporter.pb.containerd.services.content.v1 import content_pb2, content_pb2_grpc
from exporter.pb.moby.filesync.v1 import filesync_pb2, filesync_pb2_grpc
from exporter.rpc.server import open_server
from exporter.rpc.session.attach import SessionDialer, attach
from exporter.rpc.session.call import session_dialer
from exporter.rpc.session.handling import Context, HandlerStream, add_stream_method
from exporter.rpc.session.manager import HEALTH_METHOD, Session, SessionManager, SessionService
from exporter.rpc.session.tunnel import started
from exporter.rpc.status import from_rpc_error
from tests.sessions import PATIENCE, until_closed


class Service:
    """A method for each way in which a call can go."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.has_ended = False
        self.metadata: dict[str, str | bytes] = {}

    def register(self, server: grpc.aio.Server) -> None:
        for name, handler in (("Echo", self.echo), ("Fail", self.fail), ("Stay", self.stay)):
            add_stream_method(server, "t", name, handler)
        add_stream_method(server, "u", "Bug", self.bug)

    async def echo(self, _: object, context: Context) -> None:
        self.metadata = dict(context.invocation_metadata())
        async with HandlerStream(context) as stream:
            await stream.start((("said", "first"),))
            while isinstance(message := await stream.read(), bytes):
                await stream.write(message)

    async def fail(self, _: object, context: Context) -> None:
        await context.write(b"so far")
        raise DataLossError("it is lost", field="a.b")

    async def bug(self, _: object, context: Context) -> None:
        raise ZeroDivisionError("never seen")

    async def stay(self, _: object, context: Context) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.1)
            self.has_ended = True


class Generated(filesync_pb2_grpc.FileSendServicer):
    """A service of gRPC's."""

    async def DiffCopy(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        async for request in request_iterator:
            yield request

    def register(self, server: grpc.aio.Server) -> None:
        filesync_pb2_grpc.add_FileSendServicer_to_server(self, server)


@asynccontextmanager
async def daemon(how: str) -> AsyncIterator[tuple[SessionManager, grpc.aio.Channel | SessionDialer]]:
    """Accepts sessions, through a channel or frame by frame."""
    sessions = SessionManager()
    async with open_server() as server:
        SessionService(sessions).register(server)
        async with started(server) as path:
            connect = partial(asyncio.get_running_loop().create_unix_connection, path=path)
            try:
                async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
                    yield sessions, channel if how == "channel" else session_dialer(connect, path)
            finally:
                await sessions.close()


class Plain(content_pb2_grpc.ContentServicer):
    """Generated code of each kind, with what gRPC's context has."""

    async def Info(self, request: Any, context: Any) -> content_pb2.InfoResponse:  # noqa: N802
        if request.digest == "code":
            context.set_code(grpc.StatusCode.ABORTED)
            context.set_details("set")
            context.set_trailing_metadata((("k", "v"),))
            assert (context.code(), context.details()) == (grpc.StatusCode.ABORTED, "set")
        if request.digest == "abort":
            context.set_trailing_metadata((("k", "v"),))
            await context.abort(grpc.StatusCode.ABORTED, "set")
        if request.digest == "fail":
            raise DataLossError("it is lost", field="a.b")
        await context.send_initial_metadata((("said", str(dict(context.invocation_metadata())["asked"])),))
        return content_pb2.InfoResponse(info=content_pb2.Info(digest=request.digest))

    async def Read(self, request: Any, context: Any) -> AsyncIterator[content_pb2.ReadContentResponse]:  # noqa: N802
        for number in range(request.size):
            yield content_pb2.ReadContentResponse(offset=number)

    async def Write(self, request_iterator: Any, context: Any) -> Any:  # type: ignore[override]  # noqa: N802
        async for request in request_iterator:
            await context.write(content_pb2.WriteContentResponse(offset=len(request.data)))

    def Abort(self, request: Any, context: Any) -> Any:  # noqa: N802
        """A handler for threads."""
        assert threading.current_thread() is not threading.main_thread()
        if request.ref != "known":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such write")
        return empty_pb2.Empty()

    def register(self, server: grpc.aio.Server) -> None:
        content_pb2_grpc.add_ContentServicer_to_server(self, server)


@pytest.fixture
async def content() -> AsyncIterator[Any]:
    plain: Any = Plain()  # type: ignore[abstract]  # has what the tests call
    async with (
        asyncio.timeout(PATIENCE),
        daemon("frames") as (sessions, peer),
        attach(peer, [plain.register]) as attachment,
    ):
        session = await sessions.wait(attachment.id, PATIENCE)
        assert session.supports("/containerd.services.content.v1.Content/Abort")
        yield content_pb2_grpc.ContentStub(session.channel)


async def test_generated_code_of_each_kind(content: Any) -> None:
    call = content.Info(content_pb2.InfoRequest(digest="d"), metadata=(("asked", "1"),))
    assert (await call).info.digest == "d"
    assert ("said", "1") in tuple(await call.initial_metadata())
    responses = content.Read(content_pb2.ReadContentRequest(size=3))
    assert [response.offset async for response in responses] == [0, 1, 2]
    requests = [content_pb2.WriteContentRequest(data=bytes(size)) for size in (3, 0, 1 << 20)]
    assert [response.offset async for response in content.Write(iter(requests))] == [3, 0, 1 << 20]


@pytest.mark.parametrize("how", ["code", "abort"])
async def test_a_status_that_generated_code_chooses(content: Any, how: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await content.Info(content_pb2.InfoRequest(digest=how), metadata=(("asked", "1"),))
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.ABORTED, "set")
    assert ("k", "v") in tuple(caught.value.trailing_metadata())


async def test_exceptions_of_generated_code(content: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await content.Info(content_pb2.InfoRequest(digest="fail"))
    error = from_rpc_error(caught.value)
    assert isinstance(error, DataLossError)
    assert (error.message, error.field) == ("it is lost", "a.b")


async def test_methods_left_out_are_unimplemented(content: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await content.Status(content_pb2.StatusRequest())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_handlers_for_threads(content: Any) -> None:
    await content.Abort(content_pb2.AbortRequest(ref="known"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await content.Abort(content_pb2.AbortRequest(ref="other"))
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "no such write")


async def test_a_request_that_cannot_be_read() -> None:
    plain: Any = Plain()  # type: ignore[abstract]
    async with (
        asyncio.timeout(PATIENCE),
        daemon("frames") as (sessions, peer),
        attach(peer, [plain.register]) as attachment,
    ):
        session = await sessions.wait(attachment.id, PATIENCE)
        info: Any = session.channel.unary_unary("/containerd.services.content.v1.Content/Info")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await info(b"\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        read: Any = session.channel.stream_stream("/containerd.services.content.v1.Content/Info")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read(iter(())).read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_session_of_asynchronous_services_has_no_socket_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.timeout(PATIENCE), daemon("frames") as (sessions, peer):
        own = tmp_path / "own"
        own.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(own))
        async with attach(peer, [Generated().register]) as attachment:
            session = await sessions.wait(attachment.id, PATIENCE)
            message = filesync_pb2.BytesMessage(data=b"x")
            stub: Any = filesync_pb2_grpc.FileSendStub(session.channel)
            assert [item async for item in stub.DiffCopy(iter([message]))] == [message]
            assert list(own.iterdir()) == []


def streaming(session: Session, method: str) -> Any:
    """A method of the client, as the daemon calls it; messages are bytes."""
    return session.channel.stream_stream(method)


@pytest.fixture(params=["channel", "frames"])
async def service(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Service, Session]]:
    service = Service()
    async with (
        daemon(request.param) as (sessions, peer),
        attach(peer, [Generated().register, service.register]) as attachment,
    ):
        yield service, await sessions.wait(attachment.id, PATIENCE)


async def test_all_methods_are_announced(service: tuple[Service, Session]) -> None:
    methods = [
        "/t/Echo",
        "/t/Fail",
        "/t/Stay",
        "/u/Bug",
        "/moby.filesync.v1.FileSend/DiffCopy",
        HEALTH_METHOD,
    ]
    assert all(service[1].supports(method) for method in methods)


@pytest.mark.parametrize(("size", "count"), [(0, 3), (10, 3000), (100_000, 40), (3 << 20, 5)])
async def test_messages_in_both_directions(service: tuple[Service, Session], size: int, count: int) -> None:
    handled, session = service
    data = os.urandom(size)
    metadata = (("k", "v"), ("k-bin", b"\x00\xff"))
    call = streaming(session, "/t/Echo")(iter([data] * count), metadata=metadata)
    async with asyncio.timeout(PATIENCE):
        assert [message async for message in call] == [data] * count
        assert ("said", "first") in tuple(await call.initial_metadata())
        assert await call.code() is grpc.StatusCode.OK
    assert handled.metadata["k"] == "v"
    assert handled.metadata["k-bin"] == b"\x00\xff"


async def test_many_calls_at_once(service: tuple[Service, Session]) -> None:
    _, session = service
    message = filesync_pb2.BytesMessage(data=os.urandom(50_000))

    async def ours() -> None:
        data = os.urandom(20_000)
        call = streaming(session, "/t/Echo")(iter([data] * 50))
        assert [item async for item in call] == [data] * 50

    async def generated() -> None:
        stub: Any = filesync_pb2_grpc.FileSendStub(session.channel)
        assert [item async for item in stub.DiffCopy(iter([message] * 50))] == [message] * 50

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*[call() for _ in range(10) for call in (ours, generated)])


async def test_a_failure_keeps_its_meaning(service: tuple[Service, Session]) -> None:
    call = streaming(service[1], "/t/Fail")()
    assert await call.read() == b"so far"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    error = from_rpc_error(caught.value)
    assert isinstance(error, DataLossError)
    assert (error.message, error.field) == ("it is lost", "a.b")


async def test_a_bug_is_internal(service: tuple[Service, Session], caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await streaming(service[1], "/u/Bug")().read()
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "never seen" in caplog.text


async def test_unknown_methods_are_unimplemented(service: tuple[Service, Session]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await streaming(service[1], "/t/Other")().read()
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("how", ["cancels", "has a deadline"])
async def test_a_handler_ends_with_its_caller(service: tuple[Service, Session], how: str) -> None:
    handled, session = service
    call = streaming(session, "/t/Stay")(timeout=0.3 if how != "cancels" else None)
    async with asyncio.timeout(PATIENCE):
        await handled.began.wait()
        if how == "cancels":
            call.cancel()
        while not handled.has_ended:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", ["channel", "frames"])
async def test_handlers_have_ended_when_the_session_has(how: str) -> None:
    service = Service()
    async with daemon(how) as (sessions, peer):
        async with attach(peer, [service.register]) as attachment:
            session = await sessions.wait(attachment.id, PATIENCE)
            call = streaming(session, "/t/Stay")()
            async with asyncio.timeout(PATIENCE):
                await service.began.wait()
        assert service.has_ended
        await until_closed(session)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert isinstance(from_rpc_error(caught.value), UnavailableError)


@pytest.mark.parametrize("how", ["channel", "frames"])
async def test_losing_the_daemon_ends_the_handlers(how: str) -> None:
    service = Service()
    async with daemon(how) as (sessions, peer), attach(peer, [service.register]) as attachment:
        session = await sessions.wait(attachment.id, PATIENCE)
        call = streaming(session, "/t/Stay")()
        async with asyncio.timeout(PATIENCE):
            await service.began.wait()
            assert not call.done()
            await sessions.close()
            await asyncio.wait((attachment.ended,))
            while not service.has_ended:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
