from __future__ import annotations

import os
import struct

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.rpc.http2.connection import CONNECTION_WINDOW
from exporter.rpc.http2.frame_reader import MAX_FRAME_SIZE
from exporter.rpc.http2.frames import (
    ACK,
    DEFAULT_FRAME_SIZE,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    PRIORITY,
    ErrorCode,
    FrameType,
    ProtocolError,
    Setting,
    frame_header,
    goaway,
    rst_stream,
    settings_frame,
    window_update,
)
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.relay import relay
from exporter.rpc.http2.stream import STREAM_WINDOW, Stream
from tests.unit.rpc.http2.wire import REQUEST, Received, Wire


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return frame_header(len(payload), kind, flags, stream_id) + payload


@given(
    st.lists(st.binary(max_size=40_000), max_size=5),
    st.lists(st.binary(max_size=40_000), max_size=5),
    st.one_of(st.none(), st.integers(1, 50)),
)
def test_a_call_arrives(requests: list[bytes], responses: list[bytes], chunk: int | None) -> None:
    wire = Wire(chunk)
    stream = wire.client.open_stream(REQUEST, end=False)
    answer = Received(stream)
    for data in requests:
        stream.send_data(data)
    stream.send_data(b"", end=True)
    wire.run()
    [call] = wire.opened
    assert call.headers == [REQUEST]
    assert call.data == b"".join(requests)
    assert call.has_ended
    call.stream.send_headers([(b":status", b"200")])
    for data in responses:
        call.stream.send_data(data)
    call.stream.send_headers([(b"grpc-status", b"0")], end=True)
    wire.run()
    assert answer.headers == [[(b":status", b"200")], [(b"grpc-status", b"0")]]
    assert answer.data == b"".join(responses)
    assert answer.has_ended
    assert stream.is_closed
    assert call.stream.is_closed
    assert answer.code is call.code is None


@given(
    st.lists(st.tuples(st.booleans(), st.lists(st.binary(max_size=20_000), max_size=4)), max_size=8),
    st.one_of(st.none(), st.integers(1, 30_000)),
)
def test_streams_that_alternate_stay_apart(runs: list[tuple[bool, list[bytes]]], chunk: int | None) -> None:
    wire = Wire(chunk)
    streams = [wire.client.open_stream(REQUEST, end=False) for _ in range(2)]
    for stream in streams:
        Received(stream)
    for is_second, pieces in runs:
        streams[is_second].send_pieces(pieces)
    for stream in streams:
        stream.send_pieces([b"la", b"st"], end=True)
    wire.run()
    for index, call in enumerate(wire.opened):
        sent = b"".join(b"".join(pieces) for is_second, pieces in runs if is_second == index)
        assert call.data == sent + b"last"
        assert call.has_ended


def test_large_headers_are_continued() -> None:
    wire = Wire()
    headers = [*REQUEST, (b"large", os.urandom(500_000).hex().encode())]
    wire.client.open_stream(headers, end=True)
    wire.run()
    assert wire.opened[0].headers == [headers]


def test_data_waits_for_credit_of_its_stream() -> None:
    wire = Wire()
    wire.gives_credit = False
    stream = wire.client.open_stream(REQUEST, end=False)
    sender = Received(stream)
    gone: list[int] = []
    data = os.urandom(STREAM_WINDOW + 300_000)
    wire.run()
    stream.send_data(data, 7, gone.append, end=True)
    wire.run()
    [call] = wire.opened
    assert len(call.data) == STREAM_WINDOW
    assert stream.queued == 300_000
    assert gone == []
    call.give()
    wire.run()
    assert call.data == data
    assert call.has_ended
    assert gone == [7]
    assert stream.queued == 0
    assert sender.progress > 0


def test_data_waits_for_credit_of_the_connection() -> None:
    wire = Wire()
    wire.gives_credit = False
    wire.server.share.limit = 1 << 20  # no credit in advance
    wire.run()
    count = CONNECTION_WINDOW // STREAM_WINDOW + 1
    streams = [wire.client.open_stream(REQUEST, end=False) for _ in range(count)]
    for stream in streams:
        stream.send_data(bytes(STREAM_WINDOW), end=True)
    wire.run()
    assert sum(len(call.data) for call in wire.opened) == CONNECTION_WINDOW
    assert sum(stream.queued for stream in streams) == STREAM_WINDOW
    for call in wire.opened:
        call.give()
    wire.run()
    assert all(call.has_ended for call in wire.opened)


def test_streams_that_are_not_read_get_credit_in_advance_for_others() -> None:
    wire = Wire()
    wire.gives_credit = False
    wire.run()
    share = wire.server.share
    share.limit = 24 << 20
    for _ in range(26):
        wire.client.open_stream(REQUEST, end=False).send_data(bytes(STREAM_WINDOW))
    wire.run()
    assert sum(len(call.data) for call in wire.opened) == 26 << 20
    assert share.used - sum(call.stream.held for call in wire.opened) == 12 << 20
    late = wire.client.open_stream(REQUEST, end=False)
    late.send_data(bytes(3 << 20))
    wire.run()
    assert late.queued == 2 << 20  # the rest of the stream's own window
    for call in wire.opened:
        call.gives_credit = True
        call.give()
    wire.run()
    assert late.queued == 0
    assert share.used == sum(call.stream.held for call in wire.opened)


def test_credit_in_advance_is_given_back_with_the_connection() -> None:
    wire = Wire()
    wire.gives_credit = False
    wire.run()
    for _ in range(26):
        wire.client.open_stream(REQUEST, end=False).send_data(bytes(STREAM_WINDOW))
    wire.run()
    assert wire.server.share.used >= 12 << 20
    wire.server.close()
    assert wire.server.share.used == 0
    for call in wire.opened:
        call.give()
    assert wire.server.share.used == 0


def test_waiting_streams_take_turns() -> None:
    wire = Wire()
    wire.gives_credit = False
    wire.server.share.limit = 1 << 20  # no credit in advance
    wire.run()
    for _ in range(CONNECTION_WINDOW // STREAM_WINDOW):
        wire.client.open_stream(REQUEST, end=False).send_data(bytes(STREAM_WINDOW))
    wire.run()
    late = [wire.client.open_stream(REQUEST, end=False) for _ in range(2)]
    for stream in late:
        stream.send_data(bytes(STREAM_WINDOW))
    for _ in range(2):
        wire.client.receive(window_update(0, 1000))
    assert [stream.queued for stream in late] == [STREAM_WINDOW - 1000] * 2


def test_a_paused_transport_stops_all_writes() -> None:
    wire = Wire()
    wire.run()
    stream = wire.client.open_stream(REQUEST, end=False)
    wire.client.pause()
    stream.send_data(b"data", end=True)
    wire.run()
    assert wire.opened[0].data == b""
    wire.client.resume()
    wire.run()
    assert wire.opened[0].data == b"data"
    assert wire.opened[0].has_ended


def test_trailers_wait_for_data() -> None:
    wire = Wire()
    stream = wire.client.open_stream(REQUEST, end=True)
    answer = Received(stream, gives_credit=False)
    wire.run()
    call = wire.opened[0].stream
    call.send_headers([(b":status", b"200")])
    call.send_data(bytes(STREAM_WINDOW + 1))
    call.send_headers([(b"grpc-status", b"0")], end=True)
    call.reset(ErrorCode.NO_ERROR)  # as a server does whose client has not ended
    wire.run()
    assert len(answer.headers) == 1
    assert answer.code is None
    answer.give()
    wire.run()
    assert answer.headers[1] == [(b"grpc-status", b"0")]
    assert len(answer.data) == STREAM_WINDOW + 1


def test_settings_change_the_windows_of_open_streams() -> None:
    wire = Wire()
    stream = wire.client.open_stream(REQUEST, end=False)
    wire.client.receive(settings_frame({Setting.INITIAL_WINDOW_SIZE: 10, Setting.MAX_FRAME_SIZE: 20_000}))
    assert stream.window == 10
    wire.client.receive(settings_frame({Setting.INITIAL_WINDOW_SIZE: 5}))
    stream.send_data(b"1234567", end=True)
    assert stream.queued == 2
    wire.client.receive(settings_frame({Setting.INITIAL_WINDOW_SIZE: 0}))
    assert stream.window == -5
    wire.client.receive(window_update(stream.id, 7))
    assert stream.queued == 0
    assert wire.client.frame_size == 20_000


def test_frames_are_no_longer_than_the_peer_takes() -> None:
    wire = Wire()
    stream = wire.client.open_stream(REQUEST, end=False)
    stream.send_data(bytes(3 * DEFAULT_FRAME_SIZE), end=True)
    wire.turn.run()
    data = wire.cables[0].take().removeprefix(PREFACE)
    lengths = []
    while data:
        length = int.from_bytes(data[:3], "big")
        if data[3] == FrameType.DATA:
            lengths.append(length)
        data = data[9 + length :]
    assert lengths == [DEFAULT_FRAME_SIZE] * 3


def test_resets_go_both_ways() -> None:
    wire = Wire()
    streams = [Received(wire.client.open_stream(REQUEST, end=False)) for _ in range(2)]
    wire.run()
    streams[0].stream.reset(ErrorCode.CANCEL)
    wire.opened[1].stream.reset(ErrorCode.REFUSED_STREAM)
    wire.run()
    assert wire.opened[0].code == ErrorCode.CANCEL
    assert streams[1].code == ErrorCode.REFUSED_STREAM
    assert streams[0].code is None


def test_data_after_the_end_is_ignored_and_its_credit_returned() -> None:
    wire = Wire()
    wire.client.open_stream(REQUEST, end=False)
    wire.run()
    wire.opened[0].stream.reset()
    wire.turn.run()
    wire.cables[1].take()
    data = frame(FrameType.DATA, 0, 1, bytes(MAX_FRAME_SIZE))
    for _ in range(CONNECTION_WINDOW // MAX_FRAME_SIZE * 3):
        wire.server.receive(data)
    wire.turn.run()
    assert not wire.server.is_closed
    assert wire.opened[0].data == b""
    assert wire.cables[1].take() == window_update(0, CONNECTION_WINDOW // 4) * 12


def test_pings_are_answered() -> None:
    wire = Wire()
    wire.run()
    wire.server.receive(frame(FrameType.PING, 0, 0, b"12345678"))
    wire.turn.run()
    assert wire.cables[1].take() == frame(FrameType.PING, 1, 0, b"12345678")


def test_a_closing_connection_tells_its_streams() -> None:
    wire = Wire()
    received = Received(wire.client.open_stream(REQUEST, end=False))
    wire.run()
    wire.client.close()
    assert received.code == ErrorCode.CANCEL
    with pytest.raises(ProtocolError):
        wire.client.open_stream(REQUEST, end=False)


def test_goaway_lets_streams_end() -> None:
    wire = Wire()
    told: list[bool] = []
    wire.client.on_goaway = lambda: told.append(True)
    stream = wire.client.open_stream(REQUEST, end=True)
    answer = Received(stream)
    wire.run()
    wire.client.receive(goaway(1, ErrorCode.NO_ERROR))
    assert told == [True]
    with pytest.raises(ProtocolError):
        wire.client.open_stream(REQUEST, end=False)
    wire.opened[0].stream.send_headers([(b"grpc-status", b"0")], end=True)
    wire.run()
    assert answer.has_ended
    assert wire.client.is_closed


def test_padding_and_priorities_are_stripped() -> None:
    wire = Wire()
    wire.turn.run()
    block = hpack.Encoder().encode(REQUEST)
    headers = bytes([3]) + struct.pack(">LB", 0, 1) + block + bytes(3)
    wire.server.receive(
        PREFACE
        + settings_frame({})
        + frame(FrameType.HEADERS, END_HEADERS | PADDED | PRIORITY, 1, headers)
        + frame(FrameType.DATA, PADDED | END_STREAM, 1, bytes([2]) + b"data" + bytes(2))
    )
    [call] = wire.opened
    assert call.headers == [REQUEST]
    assert call.data == b"data"
    assert call.has_ended


HEADERS = frame(FrameType.HEADERS, END_HEADERS, 1, hpack.Encoder().encode(REQUEST))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(FrameType.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.HEADERS, END_HEADERS, 2, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.CONTINUATION, END_HEADERS, 1, b""), ErrorCode.PROTOCOL_ERROR),
        (
            frame(FrameType.HEADERS, 0, 1, b"") + frame(FrameType.PING, 0, 0, bytes(8)),
            ErrorCode.PROTOCOL_ERROR,
        ),
        (frame(FrameType.HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
        (frame(FrameType.HEADERS, END_HEADERS | PADDED, 1, b"\x09"), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.PUSH_PROMISE, END_HEADERS, 1, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.PING, 0, 0, b"x"), ErrorCode.FRAME_SIZE_ERROR),
        (frame(FrameType.SETTINGS, 0, 0, b"x"), ErrorCode.FRAME_SIZE_ERROR),
        (frame(FrameType.WINDOW_UPDATE, 0, 0, b"x"), ErrorCode.FRAME_SIZE_ERROR),
        (frame_header(MAX_FRAME_SIZE + 1, FrameType.DATA, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
        (window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
        (window_update(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
        (frame(FrameType.HEADERS, END_HEADERS, 0, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.HEADERS, END_HEADERS | PRIORITY, 1, b"x"), ErrorCode.FRAME_SIZE_ERROR),
        (frame(FrameType.PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.PRIORITY, 0, 1, bytes(4)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(FrameType.RST_STREAM, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.RST_STREAM, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
        (rst_stream(9, ErrorCode.CANCEL), ErrorCode.PROTOCOL_ERROR),
        (window_update(9, 1), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.SETTINGS, 0, 1, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.SETTINGS, ACK, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(FrameType.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.GOAWAY, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
        (settings_frame({Setting.MAX_FRAME_SIZE: 0}), ErrorCode.PROTOCOL_ERROR),
        (settings_frame({Setting.MAX_FRAME_SIZE: 2**14 - 1}), ErrorCode.PROTOCOL_ERROR),
        (settings_frame({Setting.MAX_FRAME_SIZE: 2**24}), ErrorCode.PROTOCOL_ERROR),
        (settings_frame({Setting.ENABLE_PUSH: 2}), ErrorCode.PROTOCOL_ERROR),
        (settings_frame({Setting.ENABLE_CONNECT_PROTOCOL: 2}), ErrorCode.PROTOCOL_ERROR),
        (settings_frame({Setting.NO_RFC7540_PRIORITIES: 2}), ErrorCode.PROTOCOL_ERROR),
        (settings_frame({Setting.INITIAL_WINDOW_SIZE: 2**31}), ErrorCode.FLOW_CONTROL_ERROR),
        (
            HEADERS
            + frame(FrameType.DATA, 0, 1, bytes(MAX_FRAME_SIZE)) * (STREAM_WINDOW // MAX_FRAME_SIZE + 1),
            ErrorCode.FLOW_CONTROL_ERROR,
        ),
    ],
)
def test_broken_rules_end_the_connection(data: bytes, code: ErrorCode) -> None:
    wire = Wire()
    wire.gives_credit = False
    wire.turn.run()
    wire.server.receive(PREFACE + settings_frame({}))
    wire.server.receive(data)
    assert wire.server.is_closed
    assert wire.cables[1].is_closed
    [error] = wire.ends
    assert isinstance(error, ProtocolError)
    assert error.code == code
    assert frame(FrameType.GOAWAY, 0, 0, b"")[3:9] in wire.cables[1].take()


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nXX", b"\x16\x03\x01"])
def test_other_protocols_are_refused(data: bytes) -> None:
    wire = Wire()
    wire.server.receive(data)
    assert wire.server.is_closed


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_garbage_never_raises(pieces: list[bytes]) -> None:
    wire = Wire()
    wire.server.receive(PREFACE + settings_frame({}) + HEADERS)
    for piece in pieces:
        if not wire.server.is_closed:
            wire.server.receive(piece)


def test_a_relay_returns_credit_when_the_receiver_does() -> None:
    """What a sender may send ahead is bounded, however slow the receiver is."""
    near, far = Wire(), Wire()
    far.gives_credit = False
    near.server.on_stream = lambda stream, headers, end: relay(stream, headers, far.client, end=end)
    stream = near.client.open_stream(REQUEST, end=False)
    answer = Received(stream)
    near.run()
    far.run()
    sent = 8 * STREAM_WINDOW
    stream.send_data(bytes(sent), end=True)

    def move() -> None:
        for _ in range(4):
            near.run()
            far.run()

    move()
    [call] = far.opened
    assert call.headers == [REQUEST]
    assert len(call.data) == STREAM_WINDOW
    assert stream.queued >= sent - 3 * STREAM_WINDOW
    for _ in range(20):
        call.give()
        move()
    assert len(call.data) == sent
    assert call.has_ended
    call.stream.send_headers([(b"grpc-status", b"0")], end=True)
    move()
    assert answer.headers == [[(b"grpc-status", b"0")]]


def test_a_relay_passes_resets_on() -> None:
    near, far = Wire(), Wire()
    near.server.on_stream = lambda stream, headers, end: relay(stream, headers, far.client, end=end)
    answers = [Received(near.client.open_stream(REQUEST, end=False)) for _ in range(3)]
    near.run()
    far.run()
    answers[0].stream.reset(ErrorCode.CANCEL)
    far.opened[1].stream.reset(ErrorCode.INTERNAL_ERROR)
    for _ in range(2):
        near.run()
        far.run()
    assert far.opened[0].code == ErrorCode.CANCEL
    assert answers[1].code == ErrorCode.INTERNAL_ERROR
    far.client.close()
    near.run()
    assert answers[2].code == ErrorCode.CANCEL
    late = Received(near.client.open_stream(REQUEST, end=False))
    near.run()
    assert late.code == ErrorCode.REFUSED_STREAM


def test_a_reset_of_a_stream_that_has_ended_is_ignored() -> None:
    wire = Wire()
    wire.client.open_stream(REQUEST, end=False)
    wire.run()
    wire.opened[0].stream.reset()
    wire.server.receive(rst_stream(1, ErrorCode.CANCEL) + window_update(1, 1))
    assert not wire.server.is_closed


def test_the_first_frame_must_be_settings() -> None:
    for first in (window_update(0, 1), frame(FrameType.SETTINGS, ACK, 0, b""), HEADERS):
        wire = Wire()
        wire.server.receive(PREFACE + first)
        assert wire.server.is_closed
        assert isinstance(wire.ends[0], ProtocolError)


@pytest.mark.parametrize("value", [0, 2**14 - 1, 2**24])
def test_a_server_may_not_shrink_frames_to_nothing_either(value: int) -> None:
    wire = Wire()
    wire.client.receive(settings_frame({Setting.MAX_FRAME_SIZE: value}))
    assert wire.client.is_closed


def test_a_server_may_not_enable_pushes() -> None:
    wire = Wire()
    wire.client.receive(settings_frame({Setting.ENABLE_PUSH: 1}))
    assert wire.client.is_closed


def requests(*others: tuple[bytes, bytes]) -> bytes:
    """HEADERS of a stream with further headers."""
    return frame(FrameType.HEADERS, END_HEADERS, 1, hpack.Encoder().encode([*REQUEST, *others]))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (HEADERS + window_update(1, 0), ErrorCode.PROTOCOL_ERROR),
        (HEADERS + window_update(1, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
        (HEADERS + HEADERS, ErrorCode.PROTOCOL_ERROR),
        (HEADERS + frame(FrameType.HEADERS, END_HEADERS | END_STREAM, 1, b"\x84"), ErrorCode.PROTOCOL_ERROR),
        (HEADERS + frame(FrameType.DATA, END_STREAM, 1, b"") + HEADERS, ErrorCode.STREAM_CLOSED),
        (
            HEADERS + frame(FrameType.DATA, END_STREAM, 1, b"") + frame(FrameType.DATA, 0, 1, b"x"),
            ErrorCode.STREAM_CLOSED,
        ),
        (frame(FrameType.HEADERS, END_HEADERS, 1, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.HEADERS, END_HEADERS, 1, b"\x83"), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.HEADERS, END_HEADERS, 1, b"\x83\x04\x03/\xff\xfe"), ErrorCode.PROTOCOL_ERROR),
        (frame(FrameType.HEADERS, END_HEADERS, 1, b"\x83\x04\x03/ x"), ErrorCode.PROTOCOL_ERROR),
        (requests((b":path", b"/b")), ErrorCode.PROTOCOL_ERROR),
        (requests((b":status", b"200")), ErrorCode.PROTOCOL_ERROR),
        (requests((b"Upper", b"x")), ErrorCode.PROTOCOL_ERROR),
        (requests((b"a b", b"x")), ErrorCode.PROTOCOL_ERROR),
        (requests((b"connection", b"close")), ErrorCode.PROTOCOL_ERROR),
        (requests((b"te", b"gzip")), ErrorCode.PROTOCOL_ERROR),
        (requests((b"x", b"a\r\nb")), ErrorCode.PROTOCOL_ERROR),
        (requests((b"x", b"a\x00")), ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_broken_rules_of_a_stream_end_the_stream(data: bytes, code: ErrorCode) -> None:
    wire = Wire()
    wire.run()
    wire.cables[1].take()
    wire.server.receive(data)
    wire.turn.run()
    assert not wire.server.is_closed
    assert wire.cables[1].take() == rst_stream(1, code)
    assert all(call.code == code for call in wire.opened)
    wire.server.receive(frame(FrameType.HEADERS, END_HEADERS, 3, hpack.Encoder().encode(REQUEST)))
    assert wire.opened[-1].stream.id == 3
    assert wire.opened[-1].code is None


@pytest.mark.parametrize(
    "answers",
    [
        [[(b":status", b"200"), (b":status", b"200")]],
        [[(b":status", b"200")], [(b"grpc-status", b"0")]],
        [[(b":path", b"/")]],
        [[(b":status", b"200")], [(b":status", b"200")]],
        [[(b":status", b"200"), (b"Upper", b"x")]],
    ],
)
def test_broken_rules_of_an_answer_end_its_stream(answers: list[Headers]) -> None:
    wire = Wire()
    received = Received(wire.client.open_stream(REQUEST, end=True))
    wire.run()
    for headers in answers:
        wire.client.receive(frame(FrameType.HEADERS, END_HEADERS, 1, hpack.Encoder().encode(headers)))
    assert received.code == ErrorCode.PROTOCOL_ERROR
    assert not wire.client.is_closed


def test_an_answer_may_have_headers_ahead_of_its_own() -> None:
    wire = Wire()
    received = Received(wire.client.open_stream(REQUEST, end=True))
    wire.run()
    for headers in [[(b":status", b"103")], [(b":status", b"200")]]:
        wire.client.receive(frame(FrameType.HEADERS, END_HEADERS, 1, hpack.Encoder().encode(headers)))
    assert received.code is None
    assert len(received.headers) == 2


def test_streams_above_the_peers_limit_wait() -> None:
    wire = Wire()
    wire.run()
    wire.client.receive(settings_frame({Setting.MAX_CONCURRENT_STREAMS: 2}))
    streams = [wire.client.open_stream(REQUEST, end=False) for _ in range(6)]
    answers = [Received(stream) for stream in streams]
    gone: list[int] = []
    for number, stream in enumerate(streams):
        stream.send_data(b"data %d" % number, 6, gone.append)
    streams[2].send_data(b"", end=True)
    streams[3].reset()
    streams[4].send_headers([(b"x", b"y")], end=True)
    wire.run()
    assert [bytes(call.data) for call in wire.opened] == [b"data 0", b"data 1"]
    assert gone == [6, 6, 6]  # two have been sent, one is not to be
    wire.opened[0].stream.reset()
    wire.run()
    assert [bytes(call.data) for call in wire.opened[2:]] == [b"data 2"]
    assert wire.opened[2].has_ended
    assert [call.stream.id for call in wire.opened] == [1, 3, 5]
    wire.client.receive(settings_frame({Setting.MAX_CONCURRENT_STREAMS: 100}))
    wire.run()
    assert [bytes(call.data) for call in wire.opened[3:]] == [b"data 4", b"data 5"]
    assert wire.opened[3].headers[1] == [(b"x", b"y")]
    assert wire.opened[3].has_ended
    assert answers[3].code is None  # it was ended from this side
    assert wire.client.share.used == 0


def test_an_empty_request_waits_like_others() -> None:
    wire = Wire()
    wire.run()
    wire.client.receive(settings_frame({Setting.MAX_CONCURRENT_STREAMS: 0}))
    Received(wire.client.open_stream(REQUEST, end=True))
    late = wire.client.open_stream(REQUEST, end=False)
    Received(late)
    late.send_data(b"", end=True)
    wire.run()
    assert wire.opened == []
    wire.client.receive(settings_frame({Setting.MAX_CONCURRENT_STREAMS: 2}))
    wire.run()
    assert [call.has_ended for call in wire.opened] == [True, True]


def test_goaway_refuses_waiting_streams() -> None:
    for end in (goaway(1, ErrorCode.NO_ERROR), b""):
        wire = Wire()
        wire.run()
        wire.client.receive(settings_frame({Setting.MAX_CONCURRENT_STREAMS: 1}))
        answers = [Received(wire.client.open_stream(REQUEST, end=False)) for _ in range(2)]
        if end:
            wire.client.receive(end)
        else:
            wire.client.close()
        assert answers[1].code == (ErrorCode.REFUSED_STREAM if end else ErrorCode.CANCEL)
        assert wire.client.share.used == 0


def test_goaway_ends_the_streams_that_were_not_taken() -> None:
    wire = Wire()
    answers = [Received(wire.client.open_stream(REQUEST, end=False)) for _ in range(2)]
    wire.run()
    wire.client.receive(goaway(1, ErrorCode.NO_ERROR))
    assert [answer.code for answer in answers] == [None, ErrorCode.REFUSED_STREAM]


def test_a_bug_ends_only_the_call_that_hits_it(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()

    def fail(stream: Stream, headers: Headers, end: bool) -> None:
        raise ValueError("a bug")

    wire.server.on_stream = fail
    answer = Received(wire.client.open_stream(REQUEST, end=False))
    wire.run()
    assert answer.code == ErrorCode.INTERNAL_ERROR
    assert not wire.server.is_closed
    assert "a call could not be accepted" in caplog.text


def test_a_cancelled_request_does_not_wait_for_credit() -> None:
    wire = Wire()
    wire.gives_credit = False
    stream = wire.client.open_stream(REQUEST, end=False)
    wire.run()
    stream.send_data(bytes(2 * STREAM_WINDOW), end=True)
    stream.reset(ErrorCode.CANCEL)
    wire.run()
    assert wire.opened[0].code == ErrorCode.CANCEL


def test_what_waits_for_the_window_gives_credit_to_its_own_source() -> None:
    wire = Wire()
    stream = wire.client.open_stream(REQUEST, end=False)
    wire.run()
    credits: dict[str, list[int]] = {"a": [], "b": []}
    from_a, from_b = credits["a"].append, credits["b"].append
    stream.window = 0
    for data, credit, source in (
        (b"1", 1, from_a),
        (b"22", 2, from_a),
        (b"333", 3, from_b),
        (b"4", 4, from_a),
    ):
        stream.send_data(data, credit=credit, on_sent=source)
    assert stream.queued == 7
    assert credits == {"a": [], "b": []}
    stream.window = 100
    stream.flush()
    wire.run()
    assert bytes(wire.opened[0].data) == b"1223334"
    assert (sum(credits["a"]), sum(credits["b"])) == (7, 3)
    assert (stream.queued, stream.window) == (0, 93)


def test_data_that_is_sent_in_parts_gives_credit_in_parts() -> None:
    """Padding counts with the first part, and what is still queued does not."""
    wire = Wire()
    stream = wire.client.open_stream(REQUEST, end=False)
    wire.run()
    credits: list[int] = []
    stream.window = 3
    stream.send_data(b"0123456789", credit=12, on_sent=credits.append)
    assert (credits, stream.queued, stream.window) == ([5], 7, 0)
    for window in (4, 100):
        stream.window = window
        stream.flush()
    wire.run()
    assert credits == [5, 4, 3]
    assert bytes(wire.opened[0].data) == b"0123456789"
