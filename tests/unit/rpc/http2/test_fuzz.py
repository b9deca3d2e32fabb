"""Random frames, and invariants that must hold for all of them.

Ten thousand are sent by default; ``FUZZ_FRAMES=1000000`` sends more. A failure names its seed, which
``FUZZ_SEED`` begins with.
"""

from __future__ import annotations

import logging
import os
import random
import struct
from collections.abc import Callable

import hpack
import pytest

from exporter.rpc.http2.budget import CLIENT_BYTES, Budget
from exporter.rpc.http2.connection import CONNECTION_WINDOW, MAX_STREAMS, Connection
from exporter.rpc.http2.frames import (
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    PRIORITY,
    FrameType,
    ProtocolError,
    frame_header,
    settings_frame,
    varint,
)
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.peek import Peek
from exporter.rpc.http2.relay import relay
from exporter.rpc.http2.sending import MAX_UNSENT_CONTROL, MAX_UNSENT_HEADERS
from exporter.rpc.http2.stream import Stream
from exporter.rpc.http2.tunnel import Tunnel, frame_bytes
from tests.unit.rpc.http2.wire import REQUEST, Cable, Received, Turn, Wire

FRAMES = int(os.environ.get("FUZZ_FRAMES", "10000"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
ROUND = 500
"""Frames for one set of connections, at most."""

_NUMBERS = (
    0,
    1,
    2,
    3,
    5,
    6,
    16383,
    16384,
    65535,
    65536,
    1 << 20,
    2**24 - 1,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
_NAMES = (b":path", b":method", b":status", b":scheme", b"x", b"X", b"te", b"connection", b"grpc-status", b"")
_VALUES = (b"/a.B/C", b"POST", b"200", b"0", b"\xff\xfe", b"a\r\nb", b"", b"trailers", b"v" * 300)


class Frames:
    """Generates frames, mostly valid ones, so that the connection stays open and reaches deep states.

    Args:
        chance: Decides.
        last_id: If they are those of a server, tells which streams there are.
    """

    def __init__(self, chance: random.Random, last_id: Callable[[], int] | None = None) -> None:
        self._chance = chance
        self._encoder = hpack.Encoder()
        self._last_id = last_id
        self._own_id = -1

    @property
    def _next_id(self) -> int:
        return 2 + (self._own_id if self._last_id is None else self._last_id())

    def frame(self) -> bytes:
        """A frame, or several that belong together."""
        make: Callable[[], bytes] = self._chance.choices(
            (
                self._call,
                self._data,
                self._window,
                self._reset,
                self._settings,
                self._ping,
                self._headers,
                self._any,
                self._goaway,
            ),
            (30, 40, 15, 8, 3, 3, 2, 0.02, 0.01),
        )[0]
        return make() if self._next_id > 1 or make in (self._ping, self._settings) else self._call()

    def _id(self) -> int:
        if self._chance.random() < 0.0005:
            return self._chance.choice((0, 2, self._next_id, self._next_id + 2, 2**31 - 1))
        return max(1, self._next_id - 2 * self._chance.randint(1, 12))

    def _number(self) -> int:
        return self._chance.choice(_NUMBERS)

    def _block(self) -> bytes:
        if self._chance.random() < 0.999:
            headers = [*REQUEST] if self._last_id is None else [(b":status", b"200")]
            if self._chance.random() < 0.2:
                headers += [(self._chance.choice(_NAMES), self._chance.choice(_VALUES))]
            return bytes(self._encoder.encode([(bytes(name), bytes(value)) for name, value in headers]))
        return self._chance.randbytes(self._chance.randint(0, 40))

    def _call(self) -> bytes:
        if self._last_id is not None:
            return self._headers()
        stream_id = self._own_id = self._next_id
        flags = END_STREAM if self._chance.random() < 0.2 else 0
        return self._in_pieces(stream_id, flags, self._block())

    def _headers(self) -> bytes:
        return self._in_pieces(self._id(), self._chance.choice((0, END_STREAM)), self._block())

    def _in_pieces(self, stream_id: int, flags: int, block: bytes) -> bytes:
        if self._chance.random() < 0.95:
            return _frame(FrameType.HEADERS, flags | END_HEADERS, stream_id, block)
        cut = self._chance.randint(0, len(block))
        last = 0 if self._chance.random() < 0.01 else END_HEADERS
        first = _frame(FrameType.HEADERS, flags, stream_id, block[:cut])
        return first + _frame(FrameType.CONTINUATION, last, stream_id, block[cut:])

    def _data(self) -> bytes:
        flags = self._chance.choices((0, END_STREAM, PADDED), (20, 1, 2))[0]
        payload = self._chance.choice(
            (
                b"",
                b"x",
                bytes(self._chance.randint(0, 3000)),
                struct.pack(">BL", 0, 3) + b"abc",
                struct.pack(">BL", self._chance.choice((0, 0, 0, 1)), self._number()),
                frame_bytes([self._inner()]),
                _message(self._chance.choice((b"\x12", b"\x0a", b"\x0b", b"\x08")) + varint(self._number())),
            )
        )
        if flags & PADDED:
            padding = 255 if self._chance.random() < 0.005 else self._chance.choice((0, 1, 3))
            payload = bytes((padding,)) + payload + bytes(3)
        return _frame(FrameType.DATA, flags, self._id(), payload) * self._chance.choice((1, 1, 1, 20))

    def _inner(self) -> bytes:
        """Something for the connection in a session."""
        return self._chance.choice(
            (
                settings_frame({}),
                settings_frame({4: self._chance.choice((0, 1, 65535))}),
                _frame(FrameType.PING, 0, 0, bytes(8)),
                _frame(FrameType.DATA, 0, 1, b"abc"),
                self._chance.randbytes(20),
            )
        )

    def _window(self) -> bytes:
        stream_id = self._chance.choice((0, self._id()))
        amount = self._number() if self._chance.random() < 0.001 else self._chance.randint(1, 30_000)
        return _frame(FrameType.WINDOW_UPDATE, 0, stream_id, struct.pack(">L", amount))

    def _reset(self) -> bytes:
        return _frame(FrameType.RST_STREAM, 0, self._id(), struct.pack(">L", self._chance.randint(0, 14)))

    def _settings(self) -> bytes:
        if self._chance.random() < 0.01:
            pairs = [(self._chance.randint(0, 10), self._number())]
        else:
            pairs = [(4, self._chance.choice((0, 1, 100, 65535, 1 << 20))) for _ in range(3)]
        return _frame(FrameType.SETTINGS, 0, 0, b"".join(struct.pack(">HL", *pair) for pair in pairs))

    def _ping(self) -> bytes:
        return _frame(FrameType.PING, self._chance.choice((0, 1)), 0, bytes(8))

    def _goaway(self) -> bytes:
        return _frame(FrameType.GOAWAY, 0, 0, struct.pack(">LL", self._number() & 0x7FFFFFFF, 0))

    def _any(self) -> bytes:
        flags = self._chance.choice((0, END_STREAM, END_HEADERS, PADDED, PRIORITY, 0xFF))
        payload = self._chance.randbytes(self._chance.choice((0, 4, 5, 6, 8, 30)))
        return _frame(self._chance.randint(0, 12), flags, self._id(), payload)


def _frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return frame_header(len(payload), kind, flags, stream_id) + payload


def _message(body: bytes) -> bytes:
    return struct.pack(">BL", 0, len(body)) + body


class Target:
    """A minimal proxy: relays, peeks, and sessions. Both of its peers send random frames."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.turn = Turn()
        self.budget = Budget()
        self.cables = Cable(), Cable()
        share = self.budget.share(CLIENT_BYTES)
        self.near = Connection(self.cables[0], self.turn, is_client=False, share=share)
        self.far = Connection(self.cables[1], self.turn, is_client=True, share=self.budget.share())
        self.near.on_stream = self._route
        self.near.on_closed = self.far.on_closed = self._on_closed
        self.streams: list[Stream] = []
        self.inner: list[Connection] = []
        self.is_paused = [False, False]

    def _on_closed(self, error: Exception | None) -> None:
        assert error is None or isinstance(error, ProtocolError)
        self.near.close()
        self.far.close()

    def _route(self, stream: Stream, headers: Headers, end: bool) -> None:
        self.streams.append(stream)
        kind = self._chance.randint(0, 2)
        if kind == 0:
            relay(stream, headers, self.far, end=end)
        elif kind == 1:
            Peek(stream, headers, end, self._decide)
        else:
            tunnel = Tunnel(stream, self.turn, lambda headers, end: None, lambda code: None)
            if self._chance.random() < 0.7:
                connection = Connection(tunnel, self.turn, is_client=True, share=stream.connection.share)
                self.inner.append(connection)
                tunnel.connect(connection)
                Received(connection.open_stream(REQUEST, end=False))

    def _decide(self, call: Peek, message: bytes | None) -> None:
        if self._chance.random() < 0.8:
            call.pass_on(self.far)

    def toggle(self) -> None:
        """Make a peer stop or resume reading."""
        side = self._chance.randint(0, 1)
        connection = (self.near, self.far)[side]
        self.is_paused[side] = not self.is_paused[side]
        if self.is_paused[side]:
            connection.pause()
        else:
            connection.resume()

    def check(self) -> None:
        """Check the invariants after a frame."""
        for connection in (self.near, self.far, *self.inner):
            assert connection.share.used >= 0
            assert connection.is_closed or connection.window <= 2**31 - 1
        assert self.budget.used <= self.budget.total
        assert self.near.share.used <= CLIENT_BYTES
        held = sum(stream.held for stream in self.streams)
        assert held <= self.near.share.used
        live = [stream for stream in self.streams if not stream.is_closed]
        assert len(live) <= MAX_STREAMS
        assert all(stream.queued >= 0 for stream in live)
        waiting = sum(stream.queued for stream in self.far._streams.values())
        assert waiting <= CONNECTION_WINDOW + CLIENT_BYTES
        for cable in self.cables:
            assert len(cable.data) <= 4 * (MAX_UNSENT_CONTROL + MAX_UNSENT_HEADERS)

    def check_end(self) -> None:
        """Check that nothing is held after the end."""
        self.near.close()
        self.turn.run()
        for connection in self.inner:
            connection.close()
        self.turn.run()
        assert self.near.is_closed
        assert self.far.is_closed
        assert all(stream.is_closed for stream in self.streams)
        assert self.near.share.used == self.far.share.used == self.budget.used == 0


def _ask(target: Target) -> None:
    """Another client is answered, within the same turn of the event loop and out of the same budget."""
    wire = Wire(turn=target.turn, budget=target.budget)
    stream = wire.client.open_stream(REQUEST, end=False)
    answer = Received(stream)
    stream.send_data(b"question", end=True)
    wire.run()
    [call] = wire.opened
    assert call.data == b"question"
    call.stream.send_headers([(b":status", b"200")], end=True)
    wire.run()
    assert answer.has_ended


def _round(seed: int, count: int) -> int:
    """Send up to `count` frames; returns how many were accepted."""
    chance = random.Random(seed)
    target = Target(chance)
    makers = Frames(chance), Frames(chance, lambda: target.far._next_id - 2)
    target.near.receive(PREFACE + settings_frame({}))
    target.far.receive(settings_frame({3: chance.choice((1, 3, 100, 2**32 - 1))}))
    sent = 0
    while sent < count and not target.near.is_closed:
        side = int(chance.random() < 0.3)
        if side and target.far._next_id == 1:
            continue
        data = b"".join(makers[side].frame() for _ in range(chance.choice((1, 1, 5))))
        connection = (target.near, target.far)[side]
        cut = chance.randint(0, len(data))
        for piece in (data[:cut], data[cut:]):
            if not connection.is_closed:
                connection.receive(piece)
                if chance.random() < 0.7:
                    target.turn.run()
        target.turn.run()
        if chance.random() < 0.02:
            target.toggle()
        target.check()
        for cable in target.cables:
            cable.take()
        sent += _count(data)
    _ask(target)
    target.check_end()
    return sent


def _count(data: bytes) -> int:
    found = position = 0
    while position < len(data):
        position += 9 + int.from_bytes(data[position : position + 3], "big")
        found += 1
    return found


@pytest.mark.timeout(0)
def test_frames_at_random(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    sent, seed = 0, SEED
    while sent < FRAMES:
        try:
            sent += max(_round(seed, ROUND), 1)
            assert caplog.records == []  # errors of the program are logged, and end the connection
        except BaseException as error:
            error.add_note(f"FUZZ_SEED={seed}")
            raise
        seed += 1
