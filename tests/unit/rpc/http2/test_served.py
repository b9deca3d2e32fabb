"""Calls that are answered frame by frame."""

from __future__ import annotations

import asyncio
import struct
from urllib.parse import unquote

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import (
    ExporterError,
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)
from exporter.rpc.http2.connection import CONNECTION_WINDOW
from exporter.rpc.http2.frames import ErrorCode
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.messages import MAX_MESSAGE_BYTES
from exporter.rpc.http2.served import ServedCall
from exporter.rpc.http2.stream import STREAM_WINDOW, Stream
from exporter.rpc.status import abort
from tests.unit.rpc.http2.wire import REQUEST, Received, Wire

PATIENCE = 30.0


class Served(Wire):
    """A client, and a server that answers one call by hand."""

    def __init__(self, chunk: int | None = None, headers: Headers = REQUEST, *, end: bool = False) -> None:
        super().__init__(chunk)
        self.calls: list[ServedCall] = []
        self.server.on_stream = self._serve
        self.stream = self.client.open_stream(headers, end=end)
        self.answer = Received(self.stream)
        self.run()
        (self.call,) = self.calls

    def _serve(self, stream: Stream, headers: Headers, end: bool) -> None:
        self.calls.append(ServedCall(stream, headers, end=end))

    def send(self, *messages: bytes, end: bool = False) -> None:
        self.stream.send_data(b"".join(map(framed, messages)), end=end)
        self.run()

    async def read(self) -> object:
        return await asyncio.wait_for(self.call.read(), PATIENCE)

    async def linger(self) -> None:
        """Let the time pass in which callers may half-close their calls."""
        await asyncio.sleep(0.01)
        self.run()


@pytest.fixture(autouse=True)
def _no_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.rpc.http2.served.LINGER_SECONDS", 0)


def framed(message: bytes) -> bytes:
    return struct.pack(">BL", 0, len(message)) + message


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(min_value=1, max_value=60))
async def test_messages_come_whole_however_they_are_cut(messages: list[bytes], chunk: int) -> None:
    wire = Served(chunk)
    wire.send(*messages, end=True)
    assert [await wire.read() for _ in messages] == messages
    assert await wire.read() is grpc.aio.EOF
    assert await wire.read() is grpc.aio.EOF


async def test_a_call_without_messages() -> None:
    assert await Served(end=True).read() is grpc.aio.EOF


async def test_a_message_larger_than_the_window_comes_and_goes() -> None:
    wire = Served()
    message = bytes(range(256)) * (3 * STREAM_WINDOW // 256)
    wire.send(message)
    assert await wire.read() == message
    writing = asyncio.create_task(wire.call.write(message))
    while not writing.done():
        await asyncio.sleep(0)
        wire.run()
    assert wire.answer.data == framed(message)


@pytest.mark.parametrize("size", [0, 1000, 100_000])
async def test_a_sender_waits_for_the_reader(size: int) -> None:
    wire = Served()
    messages = [bytes(size)] * (5 * STREAM_WINDOW // 2 // (size + 5))
    wire.send(*messages)
    assert wire.stream.queued > 0
    for number, message in enumerate(messages):
        assert await wire.call.read() == message
        if number % 1000 == 0 or size:
            wire.run()
    assert wire.stream.queued == 0


async def test_a_writer_waits_for_a_slow_caller() -> None:
    wire = Served()
    wire.answer.gives_credit = False
    writing = asyncio.create_task(wire.call.write(bytes(3 * STREAM_WINDOW)))
    for _ in range(5):
        await asyncio.sleep(0)
        wire.run()
    assert not writing.done()
    wire.answer.gives_credit = True
    wire.answer.give()
    wire.run()
    async with asyncio.timeout(PATIENCE):
        await writing


async def test_an_answer_has_headers_messages_and_a_status() -> None:
    wire = Served(end=True)
    await wire.call.send_initial_metadata((("a", "b"), ("x-bin", b"\xff\x00")))
    await wire.call.write(b"one")
    await wire.call.write(b"")
    wire.call.finish()
    wire.run()
    first, last = wire.answer.headers
    assert first == [
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"a", b"b"),
        (b"x-bin", b"/wA"),
    ]
    assert wire.answer.data == framed(b"one") + framed(b"")
    assert last == [(b"grpc-status", b"0")]
    assert wire.answer.has_ended


async def test_a_status_may_be_the_whole_answer() -> None:
    wire = Served()
    with pytest.raises(grpc.aio.AbortError):
        await abort(wire.call, FailedPreconditionError("it is 5 % too späte\n", field="a.b"))
    wire.call.finish()
    wire.run()
    (headers,) = wire.answer.headers
    values = dict(headers)
    assert values[b":status"] == b"200"
    assert values[b"grpc-status"] == b"9"
    assert values[b"grpc-message"] == b"it is 5 %25 too sp%C3%A4te%0A"
    assert unquote(values[b"grpc-message"].decode()) == "it is 5 % too späte\n"
    assert values[b"grpc-status-details-bin"]
    assert wire.answer.has_ended
    assert not wire.stream.is_closed  # a caller that still writes is not to take the end for a failure
    await wire.linger()
    assert wire.stream.is_closed  # but need not end its side


@pytest.mark.parametrize(
    ("prefix", "kind"),
    [
        (b"\x01\x00\x00\x00\x01", InvalidArgumentError),
        (struct.pack(">BL", 0, MAX_MESSAGE_BYTES + 1), ResourceExhaustedError),
    ],
)
async def test_an_invalid_message_fails_the_call(prefix: bytes, kind: type[ExporterError]) -> None:
    wire = Served()
    wire.send(b"good")
    wire.stream.send_data(prefix + b"x")
    wire.run()
    assert await wire.read() == b"good"
    for _ in range(2):
        with pytest.raises(kind, match="is not taken"):
            await wire.read()


async def test_a_message_that_is_cut_off() -> None:
    wire = Served()
    wire.stream.send_data(framed(b"message")[:-1], end=True)
    wire.run()
    with pytest.raises(InvalidArgumentError, match="cut off"):
        await wire.read()


async def test_a_caller_that_ends_the_call_cancels_its_handler() -> None:
    wire = Served()
    wire.call.task = asyncio.create_task(asyncio.sleep(PATIENCE))
    await asyncio.sleep(0)
    wire.stream.reset()
    wire.run()
    await asyncio.wait((wire.call.task,), timeout=PATIENCE)
    assert wire.call.task.cancelled()
    with pytest.raises(UnavailableError, match="has ended the call"):
        await wire.read()
    with pytest.raises(UnavailableError, match="has ended the call"):
        await wire.call.write(b"x")


async def test_a_call_can_be_dropped_without_an_answer() -> None:
    wire = Served()
    wire.call.cancel()
    wire.run()
    assert wire.answer.code == ErrorCode.CANCEL


@pytest.mark.parametrize("unread", [0, 1, 30])
async def test_unread_messages_cost_the_connection_no_credit(unread: int) -> None:
    wire = Served()
    wire.send(*[bytes(100_000)] * unread)
    wire.call.finish()
    for _ in range(200):  # more than the window of the connection
        stream = wire.client.open_stream(REQUEST, end=False)
        Received(stream)
        wire.run()
        stream.send_data(framed(bytes(100_000)))
        wire.run()
        assert stream.queued == 0
        wire.calls.pop().finish()
        wire.run()


@pytest.mark.parametrize("end", ["finish", "cancel", "caller", "late caller"])
async def test_credit_is_returned_exactly_once(end: str) -> None:
    wire = Served()
    for _ in range(20):
        stream = wire.client.open_stream(REQUEST, end=False)
        answer = Received(stream, gives_credit=False)
        wire.run()
        call = wire.calls.pop()
        for _ in range(12):  # so many that credit for them is held back
            stream.send_data(framed(bytes(100_000)))
        wire.run()
        if end != "cancel":
            writing = asyncio.create_task(call.write(bytes(3 * STREAM_WINDOW)))
            await asyncio.sleep(0)
            writing.cancel()
        if end == "caller":
            stream.reset()
        elif end == "cancel":
            call.cancel()
        else:
            call.finish()  # waits behind the message
            wire.run()
            assert not stream.is_closed
            stream.send_data(framed(bytes(100_000)))
            wire.run()
            if end == "late caller":
                stream.reset()
        wire.run()
        answer.gives_credit = True
        answer.give()
        wire.run()
        await wire.linger()
        assert stream.is_closed
        assert CONNECTION_WINDOW * 3 // 4 < wire.client.window <= CONNECTION_WINDOW


def test_metadata_is_text_or_bytes() -> None:
    headers = [*REQUEST, (b"a-bin", b"/wA"), (b"b-bin", b"!"), (b"c", b"\xff")]
    assert Served(headers=headers).call.invocation_metadata() == (
        ("x", "ä"),
        ("x", "2"),
        ("a-bin", b"\xff\x00"),
        ("b-bin", b"!"),
        ("c", "ÿ"),
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(b"90S", 90), (b"2M", 120), (b"90000m", 90), (b"9" * 400 + b"H", None), (b"1x", None)],
)
async def test_the_deadline_of_a_call_is_read(text: bytes, seconds: float | None) -> None:
    remaining = Served(headers=[*REQUEST, (b"grpc-timeout", text)]).call.time_remaining()
    assert remaining == (None if seconds is None else pytest.approx(seconds, abs=30))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"2H", 7200),
        (b"90M", 5400),
        (b"5000S", 5000),
        (b"5000000m", 5000),
        (b"90000000u", 90),
        (b"99999999n", 0.1),
    ],
)
async def test_a_deadline_is_counted_from_now(text: bytes, seconds: float) -> None:
    served = Served(headers=[*REQUEST, (b"grpc-timeout", text)])
    remaining = served.call.time_remaining()
    assert remaining is not None
    assert seconds - PATIENCE < remaining <= seconds
