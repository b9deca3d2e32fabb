# ruff: noqa: N802 (methods are named as in the .proto)

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from exporter.errors import FailedPreconditionError, UnavailableError
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.pb.moby.filesync.v1 import filesync_pb2, filesync_pb2_grpc
from exporter.rpc.http2.stream import STREAM_WINDOW
from exporter.rpc.http2.tunnel import frame_bytes
from exporter.rpc.session.attach import SessionDialer, attach
from exporter.rpc.session.call import _SessionCall, session_dialer
from exporter.rpc.session.manager import Session, SessionManager, SessionService
from exporter.rpc.status import StatusInterceptor, from_rpc_error
from exporter.rpc.target import unix_target
from tests.sessions import PATIENCE, until_closed
from tests.unit.rpc.http2.wire import REQUEST, Wire

Bytes = filesync_pb2.BytesMessage


class Echo(filesync_pb2_grpc.FileSendServicer):
    async def DiffCopy(self, request_iterator: AsyncIterator[Bytes], context: Any) -> AsyncIterator[Bytes]:
        async for request in request_iterator:
            yield request

    def register(self, server: grpc.aio.Server) -> None:
        filesync_pb2_grpc.add_FileSendServicer_to_server(self, server)


@asynccontextmanager
async def daemon(
    path: Path, *, takes_sessions: bool = True
) -> AsyncIterator[tuple[SessionManager, SessionDialer]]:
    sessions = SessionManager()
    server = grpc.aio.server(interceptors=[StatusInterceptor()])
    if takes_sessions:
        SessionService(sessions).register(server)
    server.add_insecure_port(unix_target(str(path)))
    await server.start()
    try:
        yield sessions, dialer(path)
    finally:
        await sessions.close()
        await server.stop(None)


def dialer(path: Path) -> SessionDialer:
    loop = asyncio.get_running_loop()
    return session_dialer(partial(loop.create_unix_connection, path=str(path)), f"unix://{path}")


async def echo(session: Session, data: bytes, count: int) -> None:
    stub: Any = filesync_pb2_grpc.FileSendStub(session.channel)
    call = stub.DiffCopy(iter([Bytes(data=data)] * count))
    assert [message.data async for message in call] == [data] * count


@pytest.mark.parametrize(("size", "count"), [(0, 1), (10, 500), (3 << 20, 5)])
async def test_services_can_be_called(tmp_path: Path, size: int, count: int) -> None:
    async with daemon(tmp_path / "s") as (sessions, dial):
        async with attach(
            dial, [Echo().register], session_id="id", name="who", shared_key="key"
        ) as attachment:
            session = await sessions.wait("id", PATIENCE)
            assert (session.name, session.shared_key) == ("who", "key")
            assert set(session.methods) == {method.lower() for method in attachment.methods}
            await echo(session, os.urandom(size), count)
        await until_closed(session)


async def test_a_refused_session_gets_the_reason(tmp_path: Path) -> None:
    async with daemon(tmp_path / "s") as (_, dial), attach(dial, [], session_id="id"):
        with pytest.raises(FailedPreconditionError, match="session id already exists"):
            async with attach(dial, [], session_id="id"):
                pass


async def test_a_daemon_without_sessions_is_reported(tmp_path: Path) -> None:
    async with daemon(tmp_path / "s", takes_sessions=False) as (_, dial):
        with pytest.raises(FailedPreconditionError, match="(?i)method not found"):
            async with attach(dial, []):
                pass


async def test_an_unreachable_daemon_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot reach a BuildKit daemon at unix://"):
        async with attach(dialer(tmp_path / "s"), []):
            pass


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_a_server_that_is_not_grpc_is_reported(tmp_path: Path, answer: bytes) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(hang_up, tmp_path / "s"):
        with pytest.raises(UnavailableError):
            async with attach(dialer(tmp_path / "s"), []):
                pass


async def test_losing_the_daemon_ends_the_session(tmp_path: Path) -> None:
    async with daemon(tmp_path / "s") as (sessions, dial), attach(dial, []) as attachment:
        await sessions.close()
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait((attachment.ended,))
    assert attachment.ended.exception() is None


async def test_calls_fail_when_the_client_leaves(tmp_path: Path) -> None:
    async with daemon(tmp_path / "s") as (sessions, dial):
        async with attach(dial, [Echo().register]) as attachment:
            session = await sessions.wait(attachment.id, PATIENCE)
            stub: Any = filesync_pb2_grpc.FileSendStub(session.channel)
            call = stub.DiffCopy()
            await call.write(Bytes(data=b"x"))
            assert (await call.read()).data == b"x"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert isinstance(from_rpc_error(caught.value, "calling"), UnavailableError)


async def test_a_writer_waits_for_a_slow_daemon_and_a_daemon_for_a_slow_reader() -> None:
    wire = Wire()
    wire.gives_credit = False
    call = _SessionCall(wire.client.open_stream(REQUEST, end=False))
    data = os.urandom(2 * STREAM_WINDOW)
    writing = asyncio.create_task(call.write(control_pb2.BytesMessage(data=data)))
    wire.run()
    await asyncio.sleep(0)
    wire.run()
    [received] = wire.opened
    await asyncio.sleep(0)
    assert not writing.done()
    received.gives_credit = True
    received.give()
    wire.run()
    async with asyncio.timeout(PATIENCE):
        await writing
    received.stream.send_headers([(b":status", b"200")])
    received.stream.send_data(frame_bytes([data]))
    wire.run()
    assert received.stream.queued > 0
    back = bytearray()
    while len(back) < len(data):
        message = await call.read()
        assert message is not None
        back += message.data
        wire.run()
    assert back == data
    received.stream.send_headers([(b"grpc-status", b"0")], end=True)
    wire.run()
    assert await call.read() is None
    with pytest.raises(EOFError):
        await call.write(control_pb2.BytesMessage(data=b"x"))
