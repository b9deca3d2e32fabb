"""Attacks on one connection, and the maximum cost of each. `docs/security.md` has the table."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import hpack
import pytest

from exporter.rpc.http2.budget import CLIENT_BYTES, Budget
from exporter.rpc.http2.connection import MAX_STREAMS, Connection
from exporter.rpc.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    FrameType,
    rst_stream,
    settings_frame,
    varint,
    window_update,
)
from exporter.rpc.http2.headers import CLIENT_HEADER_BYTES, Headers
from exporter.rpc.http2.peek import MAX_PEEK_BYTES, Peek
from exporter.rpc.http2.served import ServedCall
from exporter.rpc.http2.stream import STREAM_WINDOW, Stream
from exporter.rpc.http2.tunnel import Deframer, Tunnel
from tests.unit.rpc.http2.hostile import MIB, Victim, few_lines, frame, measured, request
from tests.unit.rpc.http2.wire import REQUEST, Cable, Turn


def test_headers_that_refer_to_a_large_entry_again_and_again() -> None:
    """4 KB of references are 16 MiB of headers."""
    victim = Victim()
    value = b"v" * 3900
    entry = b"\x40\x01x" + bytes(hpack.hpack.encode_integer(len(value), 7)) + value
    first = request(1)[9:] + entry
    data = frame(FrameType.HEADERS, END_HEADERS, 1, first)
    block = request(1)[9:] + b"\xbe" * 4100
    data += b"".join(frame(FrameType.HEADERS, END_HEADERS, 3 + 2 * n, block) for n in range(60))
    assert len(data) < 260_000
    with measured() as memory:
        victim.send(data)
    assert memory.peak < 128 * MIB


def test_headers_of_very_many_fields() -> None:
    """A byte makes a field of the header, and Python needs 150 bytes for it."""
    victim = Victim()
    block = request(1)[9:] + b"\x90" * (1 << 19)
    pieces = [block[n : n + 16384] for n in range(0, len(block), 16384)]
    data = frame(FrameType.HEADERS, 0, 1, pieces[0])
    data += b"".join(frame(FrameType.CONTINUATION, 0, 1, piece) for piece in pieces[1:])
    data += frame(FrameType.CONTINUATION, END_HEADERS, 1)
    with measured() as memory, few_lines(1_000_000):
        victim.send(data)
    assert memory.peak < 8 * MIB


def test_calls_of_very_many_headers() -> None:
    """Each byte is a header that is decoded, checked and encoded."""
    victim = Victim()
    block = request(1)[9:] + b"\x90" * 4000
    victim.send(b"".join(frame(FrameType.HEADERS, END_HEADERS, 1 + 2 * n, block) for n in range(20)))
    assert victim.near.is_closed
    assert len(victim.streams) == 4


def test_clients_of_the_proxy_may_send_headers_of_a_mebibyte() -> None:
    for size, is_taken in ((1_000_000, True), (1 << 20, False)):
        victim = Victim(max_header_bytes=CLIENT_HEADER_BYTES)
        block = (
            request(1)[9:] + b"\x00\x01x" + bytes(hpack.hpack.encode_integer(size, 7)) + bytes([120]) * size
        )
        pieces = [block[n : n + 16384] for n in range(0, len(block), 16384)]
        data = frame(FrameType.HEADERS, 0, 1, pieces[0])
        data += b"".join(frame(FrameType.CONTINUATION, 0, 1, piece) for piece in pieces[1:])
        victim.send(data + frame(FrameType.CONTINUATION, END_HEADERS, 1))
        assert len(victim.streams) == is_taken
        assert victim.near.is_closed is not is_taken


def test_a_long_block_of_short_headers_is_not_copied_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder copies what is left of its input for each literal."""
    copied = 0
    decode = hpack.Decoder._decode_literal

    def counting(self: hpack.Decoder, data: bytes, should_index: bool) -> object:
        nonlocal copied
        copied += len(data)
        return decode(self, data, should_index)

    monkeypatch.setattr(hpack.Decoder, "_decode_literal", counting)
    victim = Victim()
    block = request(1)[9:] + b"\x00\x01a\x01b" * 3000 + b"\x00\x01a\x7f\x80\x7f" + b"x" * 16383
    victim.send(frame(FrameType.HEADERS, END_HEADERS, 1, block))
    assert not victim.near.is_closed
    assert len(victim.streams) == 1
    assert copied < 400 * len(block)


def test_empty_data_for_a_receiver_that_is_stalled() -> None:
    victim = Victim()
    victim.send(request(1) + frame(FrameType.DATA, 0, 1, b"x"))
    data = frame(FrameType.DATA, 0, 1) * 100_000
    with measured() as memory:
        victim.send(data)
    assert memory.held < MIB


def test_padding_alone_for_a_receiver_that_is_stalled() -> None:
    victim = Victim()
    victim.send(request(1) + frame(FrameType.DATA, 0, 1, b"x"))
    data = frame(FrameType.DATA, PADDED, 1, b"\x03abc") * 100_000
    with measured() as memory:
        victim.send(data)
    assert memory.held < MIB
    assert not victim.near.is_closed  # padding has its credit back at once


def test_a_byte_of_data_pins_no_read_buffer() -> None:
    """The rest of each read is a frame of an unknown type."""
    victim = Victim()
    victim.send(request(1))
    filler = frame(0xEE, 0, 0, bytes(60_000)) * 4
    with measured() as memory:
        for _ in range(400):
            victim.send(frame(FrameType.DATA, 0, 1, b"x") + filler)
    assert memory.held < 2 * MIB


def test_the_rest_of_a_run_pins_no_read_buffer() -> None:
    """The receiver takes all but one byte of each stream."""
    victim = Victim()
    count = 200
    with measured() as memory:
        for n in range(count):
            stream_id = 1 + 2 * n
            victim.send(request(stream_id) + frame(FrameType.DATA, 0, stream_id, bytes(50_000)) * 4)
            victim.receive(window_update(stream_id, 199_999) + window_update(0, 199_999))
            victim.cables[1].take()
    assert victim.streams[0].connection is victim.near
    assert memory.held < 4 * MIB


def test_data_in_frames_of_one_byte() -> None:
    victim = Victim()
    victim.send(request(1))
    data = frame(FrameType.DATA, 0, 1, b"x") * 100_000
    with measured() as memory:
        victim.send(data)
    assert not victim.near.is_closed
    assert memory.held < MIB


def test_requests_that_are_announced_and_never_completed() -> None:
    """Each has to be peeked at, and so has to be held."""
    turn = Turn()
    cable = Cable()
    victim = Connection(cable, turn, is_client=False, share=Budget().share(CLIENT_BYTES))
    seen: list[Peek] = []
    victim.on_stream = lambda stream, headers, end: seen.append(
        Peek(stream, headers, end, lambda call, data: None)
    )
    victim.receive(PREFACE + settings_frame({}))
    streams = range(1, 41, 2)
    prefix = struct.pack(">BL", 0, MAX_PEEK_BYTES)
    piece = bytes(16_000)
    with measured() as memory:
        for stream_id in streams:
            victim.receive(request(stream_id) + frame(FrameType.DATA, 0, stream_id, prefix))
        _pour(victim, turn, cable, streams, piece)
    assert memory.held < 100 * MIB


def test_messages_that_are_announced_and_never_completed() -> None:
    """Calls that are answered here hold incomplete messages."""
    turn = Turn()
    cable = Cable()
    victim = Connection(cable, turn, is_client=False, share=Budget().share(CLIENT_BYTES))
    victim.on_stream = lambda stream, headers, end: _ignore(ServedCall(stream, headers, end=end))
    victim.receive(PREFACE + settings_frame({}))
    streams = range(1, 61, 2)
    prefix = struct.pack(">BL", 0, 16 * MIB)
    with measured() as memory:
        for stream_id in streams:
            victim.receive(request(stream_id) + frame(FrameType.DATA, 0, stream_id, prefix))
        _pour(victim, turn, cable, streams, bytes(16_000))
    assert memory.held < 100 * MIB


def test_messages_that_nobody_reads() -> None:
    turn = Turn()
    cable = Cable()
    victim = Connection(cable, turn, is_client=False, share=Budget().share(CLIENT_BYTES))
    calls: list[ServedCall] = []
    victim.on_stream = lambda stream, headers, end: calls.append(ServedCall(stream, headers, end=end))
    victim.receive(PREFACE + settings_frame({}))
    streams = range(1, 401, 2)
    message = struct.pack(">BL", 0, 995) + bytes(995)
    with measured() as memory:
        for stream_id in streams:
            victim.receive(request(stream_id))
        _pour(victim, turn, cable, streams, message * 16, MIB)
    assert memory.held < 100 * MIB


def test_streams_that_are_stalled_until_there_is_no_more_credit() -> None:
    turn = Turn()
    cable = Cable()
    victim = Connection(cable, turn, is_client=False, share=Budget().share(CLIENT_BYTES))
    calls: list[ServedCall] = []
    victim.on_stream = lambda stream, headers, end: calls.append(ServedCall(stream, headers, end=end))
    victim.receive(PREFACE + settings_frame({}))
    streams = range(1, 401, 2)
    message = struct.pack(">BL", 0, 15_995) + bytes(15_995)
    with measured() as memory:
        for stream_id in streams:
            victim.receive(request(stream_id))
        _pour(victim, turn, cable, streams, message, MIB - 16_000)
    assert 40 * MIB < memory.held < 100 * MIB


def _ignore(call: ServedCall) -> None:
    pass


def _pour(
    victim: Connection,
    turn: Turn,
    cable: Cable,
    streams: Sequence[int],
    piece: bytes,
    most: int = 15 * MIB,
) -> None:
    """Send as much on each stream as there is credit for, up to a limit."""
    credit = dict.fromkeys(streams, STREAM_WINDOW - 16)
    total = 16 * MIB - 16 * len(streams)
    left = dict.fromkeys(streams, most)
    while not victim.is_closed:
        sent = False
        for stream_id in streams:
            while (
                min(credit.get(stream_id, 0), total, left[stream_id]) >= len(piece) and not victim.is_closed
            ):
                victim.receive(frame(FrameType.DATA, 0, stream_id, piece))
                credit[stream_id] -= len(piece)
                total -= len(piece)
                left[stream_id] -= len(piece)
                sent = True
        turn.run()
        for kind, stream_id, payload in _frames(cable.take()):
            if kind == FrameType.WINDOW_UPDATE:
                amount = int.from_bytes(payload, "big")
                if stream_id:
                    credit[stream_id] += amount
                else:
                    total += amount
            elif kind == FrameType.RST_STREAM:
                credit.pop(stream_id, None)
        if not sent:
            break


def _frames(data: bytes) -> list[tuple[int, int, bytes]]:
    found, position = [], 0
    while position < len(data):
        length = int.from_bytes(data[position : position + 3], "big")
        payload = data[position + 9 : position + 9 + length]
        found.append((data[position + 3], int.from_bytes(data[position + 5 : position + 9], "big"), payload))
        position += 9 + length
    return found


@pytest.mark.parametrize(
    "flood",
    [
        frame(FrameType.PING, 0, 0, bytes(8)),
        settings_frame({4: 1}),
        settings_frame({}),
    ],
)
def test_floods_whose_answers_nobody_reads(flood: bytes) -> None:
    victim = Victim()
    victim.near.pause()
    with measured() as memory:
        victim.send(flood * 150_000)
    assert victim.near.is_closed
    assert memory.peak < 16 * MIB


def test_requests_that_are_refused_and_whose_refusals_nobody_reads() -> None:
    victim = Victim()
    victim.near.pause()
    data = b"".join(request(1 + 2 * n) for n in range(50_000))
    with measured() as memory:
        victim.send(data)
    assert memory.peak < 32 * MIB


def test_empty_data_when_the_window_is_negative() -> None:
    victim = Victim(window=10)
    victim.send(request(1) + frame(FrameType.DATA, 0, 1, b"0123456789"))
    victim.receive(settings_frame({4: 0}))
    victim.cables[1].take()
    with few_lines(10_000):
        victim.send(frame(FrameType.DATA, 0, 1))
        victim.send(frame(FrameType.DATA, 0, 1, b"more"))
        victim.send(frame(FrameType.DATA, END_STREAM, 1))
    victim.receive(window_update(1, 10))
    assert victim.cables[1].take() == b""
    victim.receive(window_update(1, 4))
    assert victim.cables[1].take() == frame(FrameType.DATA, END_STREAM, 1, b"more")


def test_an_end_needs_no_window() -> None:
    victim = Victim(window=10)
    victim.send(request(1) + frame(FrameType.DATA, 0, 1, b"0123456789"))
    victim.receive(settings_frame({4: 0}))
    victim.cables[1].take()
    victim.send(frame(FrameType.DATA, END_STREAM, 1))
    assert victim.cables[1].take() == frame(FrameType.DATA, END_STREAM, 1)


def test_settings_of_thousands_of_entries_over_thousands_of_streams() -> None:
    victim = Victim()
    victim.send(b"".join(request(1 + 2 * n) for n in range(1000)))
    assert len(victim.streams) == 1000
    payload = b"".join(struct.pack(">HL", 4, n % 100) for n in range(10_000))
    with few_lines(150_000):
        victim.send(frame(FrameType.SETTINGS, 0, 0, payload))
    assert not victim.near.is_closed
    victim.cables[0].take()
    with few_lines(400_000):
        victim.send(settings_frame({4: 1}) * 5_000)
    assert not victim.near.is_closed
    assert victim.cables[0].take() == frame(FrameType.SETTINGS, ACK, 0) * 5_000


def test_streams_that_are_opened_and_reset_at_once() -> None:
    victim = Victim()
    data = b"".join(request(1 + 2 * n) + rst_stream(1 + 2 * n, 8) for n in range(20_000))
    victim.send(data)
    assert victim.near.is_closed
    assert len(victim.streams) < 5_000


def test_streams_that_are_made_to_be_reset_here() -> None:
    """A peer can break the rules of a stream instead of resetting it."""
    victim = Victim()
    data = b"".join(request(1 + 2 * n) + window_update(1 + 2 * n, 0) for n in range(20_000))
    victim.send(data)
    assert victim.near.is_closed
    assert len(victim.streams) < 5_000


def test_a_header_block_in_very_many_frames() -> None:
    victim = Victim()
    data = frame(FrameType.HEADERS, 0, 1, request(1)[9:]) + frame(FrameType.CONTINUATION, 0, 1) * 100_000
    with few_lines(100_000):
        victim.send(data)
    assert victim.near.is_closed


def test_streams_beyond_the_limit_are_refused() -> None:
    victim = Victim()
    count = MAX_STREAMS + 1000
    with measured() as memory:
        victim.send(b"".join(request(1 + 2 * n) for n in range(count)))
    assert not victim.near.is_closed
    assert len(victim.streams) == MAX_STREAMS
    assert memory.held < 16 * MIB
    victim.send(rst_stream(1, 8) + request(1 + 2 * count))
    assert len(victim.streams) == MAX_STREAMS + 1
    victim.send(b"".join(request(1 + 2 * n) for n in range(count + 1, 20_000)))
    assert victim.near.is_closed


def test_streams_whose_requests_are_large() -> None:
    """A call that is peeked at before it is relayed keeps its headers."""
    turn = Turn()
    victim = Connection(Cable(), turn, is_client=False, share=Budget().share(CLIENT_BYTES))
    victim.on_stream = _peek
    victim.receive(PREFACE + settings_frame({}))
    with measured() as memory:
        for n in range(2000):
            if not victim.is_closed:
                victim.receive(request(1 + 2 * n, [*REQUEST, (b"x", b"v" * 60_000)]))
                turn.run()
    assert memory.held < 80 * MIB


def _peek(stream: Stream, headers: Headers, end: bool) -> None:
    Peek(stream, headers, end, lambda call, data: None)


def _message(body: bytes) -> bytes:
    return struct.pack(">BL", 0, len(body)) + body


def test_a_message_of_a_session_that_begins_with_another_field() -> None:
    size = 8 * MIB
    body = b"\x12" + varint(size) + bytes(size) + b"\x0a\x02ab"
    data = _message(body)
    deframer = Deframer()
    found = b""
    with measured() as memory:
        for position in range(0, len(data), 1024):
            found += b"".join(deframer.feed(data[position : position + 1024]))
    assert found == b"ab"
    assert memory.peak < MIB  # nothing is kept, so nothing can be copied again and again


def test_a_session_of_small_pieces_before_it_is_taken() -> None:
    """Until the daemon has accepted a session, the client's data in it is kept."""
    turn = Turn()
    cable = Cable()
    victim = Connection(cable, turn, is_client=False, share=Budget().share(CLIENT_BYTES))
    tunnels: list[Tunnel] = []
    victim.on_stream = lambda stream, headers, end: tunnels.append(
        Tunnel(stream, turn, lambda headers, end: None, lambda code: None)
    )
    victim.receive(PREFACE + settings_frame({}) + request(1))
    filler = frame(0xEE, 0, 0, bytes(60_000)) * 4
    small = frame(FrameType.DATA, 0, 1, b"\x00\x00\x00\x00\x03\x0a\x01x")
    with measured() as memory:
        for _ in range(200):
            victim.receive(bytes(bytearray(small + filler)))
            turn.run()
        victim.receive(small * 50_000)
    assert memory.held < 4 * MIB


def test_large_headers_for_a_receiver_that_does_not_read() -> None:
    """Flow control does not cover headers: 120 bytes are 230 KB of them."""
    victim = Victim()
    victim.far.pause()
    value = b"v" * 3900
    entry = b"\x40\x01x" + bytes(hpack.hpack.encode_integer(len(value), 7)) + value
    data = frame(FrameType.HEADERS, END_HEADERS, 1, request(1)[9:] + entry)
    block = request(1)[9:] + b"\xbe" * 58
    data += b"".join(frame(FrameType.HEADERS, END_HEADERS, 3 + 2 * n, block) for n in range(1000))
    with measured() as memory:
        victim.send(data)
    assert memory.peak < 128 * MIB  # the headers, their copy for the transport, and what the cable has taken
    assert not victim.near.is_closed
    refused = [stream for stream in victim.streams if stream.is_closed]
    assert 800 < len(refused) < 1000
