from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import pytest

from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.sockets import Scheduler, SocketTransport


class Recorder:
    """Takes the place of a connection."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.came = asyncio.Event()

    def receive(self, data: bytes) -> None:
        self.data += data
        self.came.set()

    def close(self, error: Exception | None = None) -> None: ...


async def test_a_connection_paused_at_creation_receives_nothing_until_resumed() -> None:
    """Python 3.11.2 ignores a pause inside `connection_made`."""
    recorder = Recorder()

    def make(transport: SocketTransport) -> Connection:
        transport.pause_reading()
        return cast(Connection, recorder)

    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"before")
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_unix_connection(lambda: SocketTransport(make, Scheduler()), sock=ours)
        await asyncio.sleep(0.05)
        theirs.sendall(b", after")
        await asyncio.sleep(0.05)
        assert not recorder.data
        protocol.resume_reading()
        async with asyncio.timeout(5):
            while bytes(recorder.data) != b"before, after":
                recorder.came.clear()
                await recorder.came.wait()
        protocol.close()


async def test_data_received_while_paused_is_kept_and_the_pause_renewed() -> None:
    recorder = Recorder()

    class Transport:
        """A transport as Python 3.11.2 has it: it reads on after the first pause."""

        def __init__(self) -> None:
            self.calls: list[str] = []

        def set_write_buffer_limits(self, **_: Any) -> None: ...

        def is_closing(self) -> bool:
            return False

        def pause_reading(self) -> None:
            self.calls.append("pause")

        def resume_reading(self) -> None:
            self.calls.append("resume")

    transport = Transport()
    protocol = SocketTransport(lambda _: cast(Connection, recorder), Scheduler())
    protocol.connection_made(cast(asyncio.Transport, transport))
    protocol.pause_reading()
    protocol.data_received(b"one, ")
    assert transport.calls == ["pause", "resume", "pause"]
    protocol.data_received(b"two")
    assert not recorder.data
    protocol.resume_reading()
    assert recorder.data == b"one, two"
    assert transport.calls[-1] == "resume"
    protocol.data_received(b", three")
    assert recorder.data == b"one, two, three"


async def test_a_peer_that_does_not_read_is_cut_off_after_its_connection_was_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("exporter.rpc.http2.sockets.CLOSE_SECONDS", 0.01)
    ended = asyncio.Event()

    class Watched(SocketTransport):
        def connection_lost(self, exc: Exception | None) -> None:
            ended.set()

    ours, theirs = socket.socketpair()
    with theirs:
        loop = asyncio.get_running_loop()
        make = lambda _: cast(Connection, Recorder())  # noqa: E731
        _, protocol = await loop.create_unix_connection(lambda: Watched(make, Scheduler()), sock=ours)
        monkeypatch.setattr(Recorder, "pause", lambda self: None, raising=False)
        protocol.write([bytes(8 << 20)])
        protocol.close()
        async with asyncio.timeout(5):
            await ended.wait()
