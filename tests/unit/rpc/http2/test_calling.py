"""Outgoing calls to a peer that is scripted frame by frame."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import grpc
import pytest

from exporter.rpc.http2.calling import Caller, OutgoingCall
from exporter.rpc.http2.connection import CONNECTION_WINDOW
from exporter.rpc.http2.ending import CallEnd
from exporter.rpc.http2.frames import ErrorCode, FrameType, Setting, frame_header, goaway, settings_frame
from exporter.rpc.http2.grpc import RESPONSE_HEADERS, Metadata
from exporter.rpc.http2.stream import STREAM_WINDOW
from exporter.rpc.http2.water import HIGH_WATER
from tests.unit.rpc.http2.wire import Received, Wire

PATIENCE = 10.0
OK = grpc.StatusCode.OK


def framed(message: bytes) -> bytes:
    return struct.pack(">BL", 0, len(message)) + message


class Peer:
    """A connection to a peer, and calls to it."""

    def __init__(self, chunk: int | None = None) -> None:
        self.wire = Wire(chunk)
        self.caller = Caller(self.wire.client)
        self.ended: list[OutgoingCall] = []

    def call(
        self, *, metadata: Metadata = (), timeout: float | None = None, limit: int = 1 << 20
    ) -> OutgoingCall:
        call = self.caller.call(
            "/a.B/C", metadata=metadata, timeout=timeout, max_message_bytes=limit, on_end=self.ended.append
        )
        self.wire.run()
        return call

    def answer(self, number: int = -1, *messages: bytes) -> Received:
        received = self.wire.opened[number]
        received.stream.send_headers([*RESPONSE_HEADERS, (b"k", b"v")])
        for message in messages:
            received.stream.send_data(framed(message))
        self.wire.run()
        return received

    def finish(self, number: int = -1, status: bytes = b"0", text: bytes = b"") -> None:
        trailers = [(b"grpc-status", status), (b"grpc-message", text), (b"t-bin", b"AP8")]
        self.wire.opened[number].stream.send_headers(trailers, end=True)
        self.wire.run()

    def tell(self, frame: bytes) -> None:
        """Send the client a frame that `Connection` would not."""
        self.wire.server.write(frame)
        self.wire.run()


async def is_waiting(task: asyncio.Task[Any]) -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return not task.done()


@pytest.mark.parametrize("chunk", [None, 1, 7])
async def test_a_call_from_request_to_status(chunk: int | None) -> None:
    peer = Peer(chunk)
    call = peer.call(metadata=(("k", "v"), ("k-bin", b"\x00\xff")), timeout=2.5)
    call.send(b"request")
    call.send_end()
    peer.wire.run()

    (received,) = peer.wire.opened
    headers = dict(received.headers[0])
    assert headers[b":path"] == b"/a.B/C"
    assert headers[b"te"] == b"trailers"
    assert headers[b"content-type"] == b"application/grpc"
    assert headers[b"grpc-timeout"] == b"2500000u"
    assert (headers[b"k"], headers[b"k-bin"]) == (b"v", b"AP8")
    assert bytes(received.data) == framed(b"request")
    assert received.has_ended

    peer.answer(0, b"one", b"")
    assert await call.initial_metadata() == (("k", "v"),)
    assert [await call.read(), await call.read()] == [b"one", b""]
    assert not call.is_over
    peer.finish()
    assert await call.read() is None
    assert call.end == CallEnd(OK, "", (("t-bin", b"\x00\xff"),))
    assert peer.ended == [call]
    assert received.code is None  # nothing was reset


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, b"0u"),
        (0.0000001, b"1u"),
        (99.0, b"99000000u"),
        (100.0, b"100000m"),
        (1e6, b"1000000S"),
        (1e9, b"277777H"),
    ],
)
async def test_deadlines_become_a_header(seconds: float, said: bytes) -> None:
    peer = Peer()
    call = peer.call(timeout=seconds)
    assert dict(peer.wire.opened[0].headers[0])[b"grpc-timeout"] == said
    call.cancel()


async def test_messages_come_before_the_status() -> None:
    peer = Peer()
    call = peer.call()
    peer.answer(0, b"one", b"two")
    peer.finish(status=b"9", text=b"not%20so %C3%A4")
    assert call.end is not None
    assert (call.end.code, call.end.details) == (grpc.StatusCode.FAILED_PRECONDITION, "not so ä")
    assert [await call.read(), await call.read(), await call.read()] == [b"one", b"two", None]


async def test_an_answer_of_trailers_only() -> None:
    peer = Peer()
    call = peer.call()
    trailers = [*RESPONSE_HEADERS, (b"grpc-status", b"12"), (b"grpc-message", b"no")]
    peer.wire.opened[0].stream.send_headers(trailers, end=True)
    peer.wire.run()
    assert call.end == CallEnd(grpc.StatusCode.UNIMPLEMENTED, "no")
    assert await call.initial_metadata() == ()


async def test_a_status_ends_the_writers_side_too() -> None:
    peer = Peer()
    peer.wire.gives_credit = False
    call = peer.call()
    call.send(bytes(4 * HIGH_WATER))
    writing = asyncio.create_task(call.writable())
    peer.wire.run()
    assert await is_waiting(writing)
    peer.answer()
    peer.finish(status=b"8", text=b"disk full")
    assert await writing is False
    assert call.end is not None
    assert (call.end.code, call.end.details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "disk full")
    peer.wire.run()
    assert peer.wire.opened[0].code == ErrorCode.NO_ERROR  # it learns that no more data follows
    call.send(b"more")  # is dropped


async def test_a_slow_peer_makes_the_writer_wait() -> None:
    peer = Peer()
    peer.wire.gives_credit = False
    call = peer.call()
    written = 0

    async def write() -> None:
        nonlocal written
        for _ in range(64):
            call.send(bytes(HIGH_WATER // 4))
            written += HIGH_WATER // 4
            await call.writable()
            peer.wire.run()

    writing = asyncio.create_task(write())
    assert await is_waiting(writing)
    assert written <= STREAM_WINDOW + 2 * HIGH_WATER
    received = peer.wire.opened[0]
    received.gives_credit = True
    received.give()
    async with asyncio.timeout(PATIENCE):
        while not writing.done():
            peer.wire.run()
            await asyncio.sleep(0)
    peer.wire.run()
    assert len(received.data) == 64 * (HIGH_WATER // 4 + 5)
    call.cancel()


async def test_a_slow_reader_makes_the_peer_wait_and_affects_no_other_call() -> None:
    peer = Peer()
    slow, quick = peer.call(), peer.call()
    message = bytes(256 << 10)
    peer.answer(0, *[message] * 40)
    stalled = peer.wire.opened[0].stream.queued
    assert stalled > 10 * len(message) - 2 * STREAM_WINDOW - HIGH_WATER
    assert stalled > 0
    peer.answer(1, message)
    peer.finish(1)
    assert await quick.read() == message
    for _ in range(40):
        assert await slow.read() == message
        peer.wire.run()
    assert peer.wire.opened[0].stream.queued == 0
    slow.cancel()


@pytest.mark.parametrize("length", [101, 1 << 30])
async def test_a_message_that_is_too_large(length: int) -> None:
    peer = Peer()
    call = peer.call(limit=100)
    received = peer.answer(0, bytes(100))
    received.stream.send_data(struct.pack(">BL", 0, length) + b"x")
    peer.wire.run()
    assert await call.read() == bytes(100)
    assert await call.read() is None
    assert call.end is not None
    assert call.end.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert received.code == ErrorCode.CANCEL


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"\x01\0\0\0\1x", "compressed"), (b"\0\0\0\0\2x", "cut off")],
)
async def test_invalid_messages_fail_the_call(data: bytes, said: str) -> None:
    peer = Peer()
    call = peer.call()
    received = peer.answer()
    received.stream.send_data(data)
    peer.finish()
    assert call.end is not None
    assert call.end.code is grpc.StatusCode.INTERNAL
    assert said in call.end.details


async def test_a_peer_that_ends_without_a_status() -> None:
    peer = Peer()
    call = peer.call()
    received = peer.answer(0, b"one")
    received.stream.send_data(b"", end=True)
    peer.wire.run()
    assert await call.read() == b"one"
    assert call.end is not None
    assert call.end.code is grpc.StatusCode.INTERNAL
    assert "without a status" in call.end.details


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (b"404", grpc.StatusCode.UNIMPLEMENTED),
        (b"401", grpc.StatusCode.UNAUTHENTICATED),
        (b"503", grpc.StatusCode.UNAVAILABLE),
        (b"500", grpc.StatusCode.UNKNOWN),
        (b"200", grpc.StatusCode.UNKNOWN),
    ],
)
@pytest.mark.parametrize("end", [False, True])
async def test_a_response_that_is_not_grpc(status: bytes, code: grpc.StatusCode, end: bool) -> None:
    peer = Peer()
    call = peer.call()
    headers = [(b":status", status), (b"content-type", b"text/html")]
    peer.wire.opened[0].stream.send_headers(headers, end=end)
    peer.wire.run()
    assert call.end is not None
    assert call.end.code is code


@pytest.mark.parametrize(
    ("reset", "code"),
    [
        (ErrorCode.CANCEL, grpc.StatusCode.CANCELLED),
        (ErrorCode.REFUSED_STREAM, grpc.StatusCode.UNAVAILABLE),
        (ErrorCode.ENHANCE_YOUR_CALM, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (ErrorCode.INTERNAL_ERROR, grpc.StatusCode.INTERNAL),
        (0x77, grpc.StatusCode.INTERNAL),
    ],
)
async def test_a_peer_that_resets_the_call(reset: int, code: grpc.StatusCode) -> None:
    peer = Peer()
    call = peer.call()
    reading = asyncio.create_task(call.read())
    assert await is_waiting(reading)
    peer.wire.opened[0].stream.reset(reset)
    peer.wire.run()
    assert await reading is None
    assert call.end is not None
    assert call.end.code is code
    assert not call.is_cancelled


async def test_a_connection_that_is_lost() -> None:
    peer = Peer()
    peer.tell(settings_frame({Setting.MAX_CONCURRENT_STREAMS: 1}))
    open_call, waiting = peer.call(), peer.call()
    peer.wire.client.close(OSError("gone"))
    later = peer.call()
    for call in (open_call, waiting, later):
        assert call.end is not None
        assert (call.end.code, call.end.details) == (grpc.StatusCode.UNAVAILABLE, "the connection is closed")
        assert await call.read() is None
    async with asyncio.timeout(PATIENCE):
        await peer.caller.wait_closed()


async def test_calls_accepted_before_a_goaway_complete() -> None:
    peer = Peer()
    first, second = peer.call(), peer.call()
    peer.tell(goaway(1, ErrorCode.NO_ERROR))
    assert not first.is_over
    assert second.end is not None  # it could be tried elsewhere
    assert second.end.code is grpc.StatusCode.UNAVAILABLE
    third = peer.call()
    assert third.end is not None
    assert third.end.code is grpc.StatusCode.UNAVAILABLE
    peer.answer(0, b"one")
    peer.finish(0)
    assert await first.read() == b"one"
    assert first.end is not None
    assert first.end.code is OK
    assert peer.wire.client.is_closed


@pytest.mark.parametrize("payload", [b"", b"\0\0\0\1"])
async def test_a_goaway_that_is_cut_off_ends_the_connection(payload: bytes) -> None:
    peer = Peer()
    call = peer.call()
    peer.tell(frame_header(len(payload), FrameType.GOAWAY, 0, 0) + payload)
    assert peer.wire.client.is_closed
    assert call.end is not None
    assert call.end.code is grpc.StatusCode.UNAVAILABLE


async def test_no_more_calls_at_once_than_the_peer_allows() -> None:
    peer = Peer()
    peer.tell(settings_frame({Setting.MAX_CONCURRENT_STREAMS: 2}))
    calls = [peer.call() for _ in range(5)]
    calls[3].send(b"early")
    calls[3].send_end()
    calls[4].cancel()
    assert len(peer.wire.opened) == 2

    peer.answer(0)
    peer.finish(0)
    peer.wire.run()
    assert len(peer.wire.opened) == 3
    calls[1].cancel()
    peer.wire.run()
    assert len(peer.wire.opened) == 4
    assert bytes(peer.wire.opened[3].data) == framed(b"early")
    assert peer.wire.opened[3].has_ended

    peer.tell(settings_frame({Setting.MAX_CONCURRENT_STREAMS: 3}))
    extra = peer.call()
    assert len(peer.wire.opened) == 5
    assert extra.end is None


async def test_a_writer_waits_for_a_call_that_waits_for_its_turn() -> None:
    peer = Peer()
    peer.tell(settings_frame({Setting.MAX_CONCURRENT_STREAMS: 0}))
    call = peer.call()
    call.send(bytes(2 * HIGH_WATER))
    writing = asyncio.create_task(call.writable())
    assert await is_waiting(writing)
    peer.tell(settings_frame({Setting.MAX_CONCURRENT_STREAMS: 1}))
    assert await writing
    assert len(peer.wire.opened[0].data) == 2 * HIGH_WATER + 5
    call.cancel()


async def test_a_deadline_that_passes() -> None:
    peer = Peer()
    peer.tell(settings_frame({Setting.MAX_CONCURRENT_STREAMS: 1}))
    opened = peer.call(timeout=0.05)
    waiting = peer.call(timeout=0.01)
    for call in (waiting, opened):
        assert call.time_remaining() is not None
        async with asyncio.timeout(PATIENCE):
            assert (await call.ended()).code is grpc.StatusCode.DEADLINE_EXCEEDED
    peer.wire.run()
    assert [received.code for received in peer.wire.opened] == [ErrorCode.CANCEL]


@pytest.mark.parametrize(
    "state",
    ["waiting for its turn", "opened", "answered", "writing", "half-closed", "with messages", "ended"],
)
async def test_a_call_that_is_cancelled(state: str) -> None:
    peer = Peer()
    peer.wire.gives_credit = False
    if state == "waiting for its turn":
        peer.tell(settings_frame({Setting.MAX_CONCURRENT_STREAMS: 0}))
    call = peer.call()
    if state in {"answered", "with messages", "ended"}:
        peer.answer(0, *[bytes(HIGH_WATER // 2)] * 4 if state == "with messages" else ())
    if state in {"writing", "half-closed"}:
        call.send(bytes(4 * HIGH_WATER))  # more than there is credit for
    if state == "half-closed":
        call.send_end()
    if state == "ended":
        peer.finish()
    waiting: list[asyncio.Task[Any]] = [asyncio.create_task(call.ended())]
    if state != "with messages":
        waiting.append(asyncio.create_task(call.read()))
    for task in waiting:
        await is_waiting(task)

    assert call.cancel() is (state != "ended")
    assert not call.cancel()
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait(waiting)
        assert await call.read() is None
        assert await call.writable() is False
    peer.wire.run()
    assert call.is_cancelled is (state != "ended")
    assert peer.ended == [call]
    if state == "waiting for its turn":
        assert peer.wire.opened == []
    elif state == "ended":
        assert peer.wire.opened[0].code == ErrorCode.NO_ERROR
    else:
        assert peer.wire.opened[0].code == ErrorCode.CANCEL
        assert call.end is not None
        assert call.end.code is grpc.StatusCode.CANCELLED

    # Nothing is held back from the calls that follow.
    peer.wire.gives_credit = True
    peer.tell(settings_frame({Setting.MAX_CONCURRENT_STREAMS: 1}))
    if len(peer.wire.opened) == 1:
        peer.wire.opened[0].give()
    after = peer.call(limit=2 * CONNECTION_WINDOW)
    after.send(bytes(2 * CONNECTION_WINDOW))
    peer.wire.run()
    received = peer.answer(-1, bytes(2 * CONNECTION_WINDOW))
    assert len(received.data) == 2 * CONNECTION_WINDOW + 5
    assert await after.read() == bytes(2 * CONNECTION_WINDOW)
    after.cancel()


async def test_no_message_follows_the_last_one() -> None:
    peer = Peer()
    call = peer.call()
    call.send_end()
    with pytest.raises(asyncio.InvalidStateError):
        call.send(b"")
    call.cancel()
