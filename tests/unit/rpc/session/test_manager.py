# ruff: noqa: N802 (methods are named as in the .proto)

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from exporter.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from exporter.pb.moby.buildkit.secrets.v1 import secrets_pb2, secrets_pb2_grpc
from exporter.pb.moby.buildkit.v1 import control_pb2, control_pb2_grpc
from exporter.pb.moby.filesync.v1 import filesync_pb2, filesync_pb2_grpc
from exporter.rpc.session.attach import attach
from exporter.rpc.session.manager import (
    HEALTH_METHOD,
    HealthCheck,
    SessionManager,
    SessionService,
)
from exporter.rpc.session.tunnel import CHUNK_SIZE
from exporter.rpc.status import from_rpc_error
from tests.sessions import PATIENCE, attached, raw_session, serving, session_server, until, until_closed

Context = Any
Bytes = filesync_pb2.BytesMessage


class Secrets(secrets_pb2_grpc.SecretsServicer):
    async def GetSecret(
        self, request: secrets_pb2.GetSecretRequest, context: Context
    ) -> secrets_pb2.GetSecretResponse:
        if request.ID != "known":
            raise NotFoundError(f"secret {request.ID} not found", field="ID")
        return secrets_pb2.GetSecretResponse(data=b"value")

    def register(self, server: grpc.aio.Server) -> None:
        secrets_pb2_grpc.add_SecretsServicer_to_server(self, server)


class Echo(filesync_pb2_grpc.FileSendServicer):
    async def DiffCopy(
        self, request_iterator: AsyncIterator[Bytes], context: Context
    ) -> AsyncIterator[Bytes]:
        async for request in request_iterator:
            yield request

    def register(self, server: grpc.aio.Server) -> None:
        filesync_pb2_grpc.add_FileSendServicer_to_server(self, server)


class Deaf(Echo):
    """Accepts a call and never reads from it."""

    def __init__(self) -> None:
        self.called = asyncio.Event()
        self.ended = asyncio.Event()

    async def DiffCopy(
        self, request_iterator: AsyncIterator[Bytes], context: Context
    ) -> AsyncIterator[Bytes]:
        self.called.set()
        try:
            await asyncio.Event().wait()
            yield Bytes()
        finally:
            self.ended.set()


class SilentHealth:
    """Announces health checks and does not answer them."""

    def register(self, server: grpc.aio.Server) -> None:
        async def check(request: bytes, context: Context) -> bytes:
            await asyncio.Event().wait()
            return b""

        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Check": grpc.unary_unary_rpc_method_handler(check)
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),)
        )


@pytest.fixture(autouse=True)
def no_leaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No socket and no directory is left, whatever a test does."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert list(tmp_path.iterdir()) == []


def get_secret(session: Any, name: str = "known") -> Any:
    request = secrets_pb2.GetSecretRequest(ID=name)
    return secrets_pb2_grpc.SecretsStub(session.channel).GetSecret(request)


async def test_the_clients_services_can_be_called() -> None:
    async with attached(Secrets().register) as session:
        assert (await get_secret(session)).data == b"value"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get_secret(session, "other")
        error = from_rpc_error(caught.value)
        assert isinstance(error, NotFoundError)
        assert (error.message, error.field) == ("secret other not found", "ID")


async def test_announced_methods_are_known_whatever_their_case() -> None:
    async with attached(Secrets().register, Echo().register) as session:
        assert session.supports("/moby.buildkit.secrets.v1.Secrets/GetSecret")
        assert session.supports("/moby.filesync.v1.FileSend/diffcopy")
        assert session.supports(HEALTH_METHOD)
        assert not session.supports("/moby.filesync.v1.FileSync/DiffCopy")


async def test_the_clients_metadata_is_kept() -> None:
    async with (
        session_server() as (sessions, channel),
        attach(channel, [], session_id="abc", shared_key="key", name="me") as attachment,
    ):
        session = await sessions.wait("abc", PATIENCE)
        assert attachment.id == session.id == "abc"
        assert (session.shared_key, session.name) == ("key", "me")
        assert sessions.get("abc") is session
        assert len(sessions) == 1


async def test_a_caller_can_wait_for_a_session() -> None:
    async with session_server() as (sessions, channel):
        waiting = [asyncio.create_task(sessions.wait("later", PATIENCE)) for _ in range(3)]
        prefixed = asyncio.create_task(sessions.wait("context:later", PATIENCE))
        await asyncio.sleep(0)
        async with attach(channel, [Secrets().register], session_id="later"):
            found = {*(await asyncio.gather(*waiting)), await prefixed}
            assert found == {sessions.get("later")}


async def test_a_session_that_never_attaches_is_unavailable() -> None:
    sessions = SessionManager()
    with pytest.raises(UnavailableError, match=r"no active session never: .* within 0.01 s"):
        await sessions.wait("never", 0.01)


async def test_waiting_can_be_cancelled() -> None:
    async with session_server() as (sessions, channel):
        waiting = asyncio.create_task(sessions.wait("x"))
        other = asyncio.create_task(sessions.wait("x", PATIENCE))
        await asyncio.sleep(0)
        waiting.cancel()
        async with attach(channel, [], session_id="x"):
            assert (await other).id == "x"
        assert waiting.cancelled()


async def test_a_session_ends_with_the_client_and_can_be_attached_again() -> None:
    async with session_server() as (sessions, channel):
        for _ in range(3):
            async with attach(channel, [Secrets().register], session_id="again"):
                session = await sessions.wait("again", PATIENCE)
                assert (await get_secret(session)).data == b"value"
            await until_closed(session)
            assert session.is_closed
            assert sessions.get("again") is None
            assert len(sessions) == 0


async def test_calls_fail_as_unavailable_when_the_client_leaves() -> None:
    deaf = Deaf()
    async with session_server() as (sessions, channel):
        async with attach(channel, [deaf.register]) as attachment:
            session = await sessions.wait(attachment.id, PATIENCE)
            call = filesync_pb2_grpc.FileSendStub(session.channel).DiffCopy()
            reading = asyncio.create_task(call.read())
            await deaf.called.wait()
        # Not as a cancellation: that would look as if the export had been cancelled.
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await reading
        assert isinstance(from_rpc_error(caught.value), UnavailableError)
        async with asyncio.timeout(PATIENCE):
            await deaf.ended.wait()


async def test_a_cancelled_call_is_cancelled_at_the_client() -> None:
    deaf = Deaf()
    async with attached(deaf.register) as session:
        call = filesync_pb2_grpc.FileSendStub(session.channel).DiffCopy()
        await deaf.called.wait()
        call.cancel()
        async with asyncio.timeout(PATIENCE):
            await deaf.ended.wait()
        assert not session.is_closed


async def test_a_second_session_of_the_same_id_is_refused() -> None:
    async with session_server() as (sessions, channel), attach(channel, [Secrets().register]) as first:
        session = await sessions.wait(first.id, PATIENCE)
        with pytest.raises(FailedPreconditionError, match=f"session {first.id} already exists"):
            async with attach(channel, [], session_id=first.id):
                pass
        assert sessions.get(first.id) is session
        assert (await get_secret(session)).data == b"value"


async def test_the_code_of_a_refusal_is_the_one_of_its_reason() -> None:
    async with session_server(limit=1) as (_, channel), attach(channel, [], session_id="one"):
        stub = control_pb2_grpc.ControlStub(channel)
        codes = []
        for metadata in (
            (("x-docker-expose-session-uuid", "one"),),
            (),
            (("x-docker-expose-session-uuid", "2"),),
        ):
            call = stub.Session(metadata=metadata)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            codes.append(caught.value.code())
    assert codes == [
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ]


async def test_a_session_needs_an_id() -> None:
    with pytest.raises(InvalidArgumentError, match="x-docker-expose-session-uuid is missing or empty"):
        await SessionManager().serve([("x-docker-expose-session-uuid", "")], NeverUsed())


async def test_no_more_sessions_than_the_limit() -> None:
    async with (
        session_server(limit=2) as (sessions, channel),
        attach(channel, []),
        attach(channel, []) as last,
    ):
        with pytest.raises(ResourceExhaustedError, match="2 sessions are attached"):
            async with attach(channel, []):
                pass
        assert len(sessions) == 2
        assert sessions.get(last.id) is not None


async def test_closing_ends_all_and_refuses_new_ones() -> None:
    async with session_server() as (sessions, channel):
        async with attach(channel, []) as attachment:
            session = await sessions.wait(attachment.id, PATIENCE)
            await sessions.close()
            assert session.is_closed
            async with asyncio.timeout(PATIENCE):
                await attachment.ended
        with pytest.raises(UnavailableError, match="shutting down"):
            async with attach(channel, []):
                pass


class Quitter:
    """Accepts a session, and ends it while the client is writing responses to many pings."""

    FIRST = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000 04 00 00000000")
    PINGS = bytes.fromhex("000008 06 00 00000000 0000000000000000") * 5000

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def register(self, server: grpc.aio.Server) -> None:
        handlers: dict[str, Any] = {"Session": grpc.stream_stream_rpc_method_handler(self._session)}
        service = "moby.buildkit.v1.Control"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))

    async def _session(self, _: object, context: Context) -> None:
        await context.write(control_pb2.BytesMessage(data=self.FIRST + self.PINGS).SerializeToString())
        await context.read()
        if self._code is not grpc.StatusCode.OK:
            await context.abort(self._code, "enough")


async def test_the_client_learns_why_its_session_has_ended() -> None:
    async with serving(Quitter(grpc.StatusCode.RESOURCE_EXHAUSTED).register) as channel:
        for _ in range(30):
            async with attach(channel, []) as attachment, asyncio.timeout(PATIENCE):
                with pytest.raises(ResourceExhaustedError, match="the session has ended: enough"):
                    await attachment.ended


async def test_a_session_that_the_server_ends_has_not_failed() -> None:
    async with serving(Quitter(grpc.StatusCode.OK).register) as channel:
        for _ in range(30):
            async with attach(channel, []) as attachment, asyncio.timeout(PATIENCE):
                await attachment.ended


async def test_a_client_that_stops_answering_health_checks_is_given_up() -> None:
    async with (
        session_server(health=HealthCheck(interval=0.01, timeout=0.01, failures=2)) as (
            sessions,
            channel,
        ),
        raw_session(channel, [SilentHealth().register], [HEALTH_METHOD]) as session_id,
    ):
        session = await sessions.wait(session_id, PATIENCE)
        await until_closed(session)
        assert len(sessions) == 0


async def test_health_checks_go_on_while_the_client_answers() -> None:
    health = HealthCheck(interval=0.001, timeout=PATIENCE, failures=1)
    async with attached(Secrets().register, health=health) as session:
        for _ in range(50):
            await get_secret(session)
        assert not session.is_closed


async def test_large_transfers_in_both_directions_at_once() -> None:
    size, count = 3 * CHUNK_SIZE + 7, 40

    async def requests(mark: int) -> AsyncIterator[Bytes]:
        for number in range(count):
            yield Bytes(data=bytes([mark, number]) + os.urandom(size))

    async with attached(Echo().register) as session:

        async def run(mark: int) -> None:
            stub = filesync_pb2_grpc.FileSendStub(session.channel)
            received = [message.data async for message in stub.DiffCopy(requests(mark))]
            assert [data[:2] for data in received] == [bytes([mark, number]) for number in range(count)]
            assert all(len(data) == size + 2 for data in received)

        await asyncio.gather(*(run(mark) for mark in range(4)))


async def test_a_slow_reader_slows_the_writer_down() -> None:
    deaf = Deaf()
    async with attached(deaf.register) as session:
        call = filesync_pb2_grpc.FileSendStub(session.channel).DiffCopy()
        await deaf.called.wait()
        sent = 0

        async def write() -> None:
            nonlocal sent
            while True:
                await call.write(Bytes(data=bytes(CHUNK_SIZE)))
                sent += CHUNK_SIZE

        writing = asyncio.create_task(write())
        before = -1
        while sent != before:  # until it makes no more way
            before = sent
            await asyncio.sleep(0.3)
        assert not writing.done()
        assert sent < 16 << 20
        writing.cancel()
        await asyncio.wait((writing,))


async def test_ended_sessions_leave_nothing_behind() -> None:
    async with session_server() as (sessions, channel):

        async def come_and_go() -> None:
            async with attach(channel, [Secrets().register]) as attachment:
                session = await sessions.wait(attachment.id, PATIENCE)
                await get_secret(session)
            await until_closed(session)

        def tasks() -> int:
            return len(asyncio.all_tasks())

        def descriptors() -> int:
            gc.collect()
            return len(list(Path("/proc/self/fd").iterdir()))

        await come_and_go()
        tasks_before, descriptors_before = tasks(), descriptors()
        await asyncio.gather(*(come_and_go() for _ in range(10)))
        await until(lambda: tasks() <= tasks_before and descriptors() <= descriptors_before + 3)


@pytest.mark.parametrize("when", ["connecting", "attached"])
async def test_a_cancelled_client_leaves_nothing(when: str) -> None:
    async with session_server() as (sessions, channel):
        going = asyncio.Event()

        async def client() -> None:
            if when == "connecting":
                going.set()
            async with attach(channel, [Secrets().register], session_id="x"):
                going.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(client())
        await going.wait()
        if when == "connecting":
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: len(sessions) == 0)


async def test_a_server_without_sessions_refuses() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(FailedPreconditionError, match="cannot attach: "):
            async with attach(channel, []):
                pass
    await server.stop(None)


async def test_an_unreachable_server_is_unavailable(tmp_path: Path) -> None:
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/nobody") as channel:
        with pytest.raises(UnavailableError, match="cannot attach: "):
            async with attach(channel, []):
                pass


async def test_a_daemon_that_dies_ends_the_session() -> None:
    sessions = SessionManager()
    server = grpc.aio.server()
    SessionService(sessions).register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, attach(channel, []) as attachment:
        await sessions.wait(attachment.id, PATIENCE)
        await server.stop(None)
        with pytest.raises(UnavailableError):
            async with asyncio.timeout(PATIENCE):
                await attachment.ended
    await sessions.close()


async def test_a_stream_with_invalid_frames_ends_alone() -> None:
    async with session_server() as (sessions, channel):
        call = control_pb2_grpc.ControlStub(channel).Session(
            metadata=(("x-docker-expose-session-uuid", "nonsense"),)
        )
        await call.write(control_pb2.BytesMessage(data=b"GET / HTTP/1.1\r\n\r\n" * 1000))
        async with asyncio.timeout(PATIENCE):
            while await call.read() is not grpc.aio.EOF:
                pass
        assert len(sessions) == 0


@pytest.mark.parametrize("name", ["x" * 100, "ü" * 50, "a b%41ü?#"])
async def test_any_temporary_directory_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    odd = tmp_path / name
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    async with attached(Secrets().register) as session:
        assert (await get_secret(session)).data == b"value"
    assert list(odd.iterdir()) == []
    odd.rmdir()


class NeverUsed:
    async def read(self) -> object:
        raise AssertionError

    async def write(self, message: control_pb2.BytesMessage, /) -> None:
        raise AssertionError
