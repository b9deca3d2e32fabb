from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.frames import FrameType, ProtocolError, Setting, frame_header, settings_frame
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.peek import MAX_PEEK_BYTES, Peek
from exporter.rpc.http2.stream import STREAM_WINDOW, Stream
from exporter.rpc.http2.tunnel import MAX_MESSAGE_BYTES, MESSAGE_BYTES, Deframer, Tunnel, frame_bytes
from tests.unit.rpc.http2.wire import REQUEST, Received, Wire


def message(data: bytes, extra: bytes = b"") -> bytes:
    body = control_pb2.BytesMessage(data=data).SerializeToString() + extra
    return b"\x00" + len(body).to_bytes(4, "big") + body


def feed(deframer: Deframer, data: bytes, chunk: int) -> bytes:
    found: list[bytes | memoryview] = []
    for position in range(0, len(data), chunk):
        found += deframer.feed(data[position : position + chunk])
    return b"".join(found)


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 64), st.booleans())
def test_bytes_come_out_of_messages(pieces: list[bytes], chunk: int, has_more: bool) -> None:
    unknown = b"\x98\x06\x01" if has_more else b""  # a field of a later version
    data = b"".join(message(piece, unknown) for piece in pieces)
    assert feed(Deframer(), data, chunk) == b"".join(pieces)


@pytest.mark.parametrize("size", [1, 127, 128, MESSAGE_BYTES, MESSAGE_BYTES + 1, 3 * MESSAGE_BYTES])
def test_bytes_go_into_messages(size: int) -> None:
    data = os.urandom(size)
    framed = frame_bytes([data[: size // 2], memoryview(data)[size // 2 :]])
    assert feed(Deframer(), framed, 1000) == data
    position = 0
    while position < len(framed):
        length = int.from_bytes(framed[position + 1 : position + 5], "big")
        parsed = control_pb2.BytesMessage.FromString(framed[position + 5 : position + 5 + length])
        assert 0 < len(parsed.data) <= MESSAGE_BYTES
        position += 5 + length


def test_bytes_are_passed_on_before_their_message_has_ended() -> None:
    deframer = Deframer()
    data = message(bytes(1000))
    assert feed(deframer, data[:500], 500) == bytes(500 - 8)
    assert feed(deframer, data[500:], 500) == bytes(508)


@pytest.mark.parametrize(
    "data",
    [
        b"\x01\x00\x00\x00\x00",
        b"\x00" + (MAX_MESSAGE_BYTES + 1).to_bytes(4, "big"),
        b"\x00\x00\x00\x00\x02\x0a\x7f",
        b"\x00\x00\x00\x00\x01\xff",
    ],
)
def test_other_messages_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Deframer().feed(data)


class Session(Wire):
    """A stream with a tunnel at the server's end; the tunnel's connection comes later than first bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.tunnels: list[Tunnel] = []
        self.server.on_stream = self._take
        self.stream = self.client.open_stream(REQUEST, end=False)
        self.answer = Received(self.stream)

    def _take(self, stream: Stream, headers: Headers, end: bool) -> None:
        self.tunnels.append(
            Tunnel(stream, self.turn, lambda headers, end: None, lambda code: self.ends.append(None))
        )


def test_data_before_the_connection_is_kept() -> None:
    session = Session()
    settings = settings_frame({Setting.MAX_FRAME_SIZE: 20_000})
    session.stream.send_data(frame_bytes([settings]))
    session.run()
    [tunnel] = session.tunnels
    inside = Connection(tunnel, session.turn, is_client=True)
    tunnel.connect(inside)
    session.run()
    assert inside.frame_size == 20_000


def test_at_most_a_window_is_kept_before_the_connection() -> None:
    session = Session()
    pings = frame_bytes([(frame_header(8, FrameType.PING, 0, 0) + bytes(8)) * (2 * STREAM_WINDOW // 17)])
    session.stream.send_data(pings)
    session.run()
    assert session.stream.queued == len(pings) - STREAM_WINDOW
    [tunnel] = session.tunnels
    tunnel.connect(Connection(tunnel, session.turn, is_client=True))
    session.run()
    assert session.stream.queued == 0


class Peeked:
    """Calls whose first message is looked at, and passed on when somebody says so."""

    def __init__(self, chunk: int | None = None) -> None:
        self.near, self.far = Wire(chunk), Wire()
        self.seen: list[tuple[Peek, bytes | None]] = []
        self.near.server.on_stream = self._peek

    def _peek(self, stream: Stream, headers: Headers, end: bool) -> None:
        Peek(stream, headers, end, lambda call, data: self.seen.append((call, data)))

    def run(self) -> None:
        for _ in range(3):
            self.near.run()
            self.far.run()


@pytest.mark.parametrize("chunk", [None, 1, 7])
def test_the_first_message_is_seen(chunk: int | None) -> None:
    peeked = Peeked(chunk)
    stream = peeked.near.client.open_stream(REQUEST, end=False)
    answer = Received(stream)
    first, second = b"\x00\x00\x00\x00\x03abc", b"\x00\x00\x00\x00\x00"
    stream.send_data(first + second[:2])
    peeked.run()
    [(call, data)] = peeked.seen
    assert data == b"abc"
    stream.send_data(second[2:], end=True)
    peeked.run()
    assert peeked.far.opened == []
    call.pass_on(peeked.far.client)
    peeked.run()
    [passed] = peeked.far.opened
    assert passed.headers == [REQUEST]
    assert passed.data == first + second
    assert passed.has_ended
    passed.stream.send_headers([(b"grpc-status", b"0")], end=True)
    peeked.run()
    assert answer.has_ended


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"", True),
        (b"\x00\x00", True),
        (b"\x01\x00\x00\x00\x03abc", False),
        (b"\x00" + (MAX_PEEK_BYTES + 1).to_bytes(4, "big"), False),
    ],
)
def test_unreadable_first_messages_are_passed_on(data: bytes, end: bool) -> None:
    peeked = Peeked()
    stream = peeked.near.client.open_stream(REQUEST, end=end and not data)
    if data:
        stream.send_data(data, end=end)
    peeked.run()
    [(call, seen)] = peeked.seen
    assert seen is None
    call.pass_on(peeked.far.client)
    peeked.run()
    [passed] = peeked.far.opened
    assert passed.data == data
    assert passed.has_ended is end


def test_a_call_that_is_cancelled_while_it_waits() -> None:
    peeked = Peeked()
    stream = peeked.near.client.open_stream(REQUEST, end=False)
    stream.send_data(b"\x00\x00\x00\x00\x00", end=True)
    peeked.run()
    [(call, _)] = peeked.seen
    stream.reset()
    peeked.run()
    call.pass_on(peeked.far.client)
    peeked.run()
    assert peeked.far.opened == []
