"""Hostile clients of a running proxy: its memory, and whether another client is answered meanwhile."""

from __future__ import annotations

import shutil
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from exporter.proxy.control import SOLVE_METHOD
from exporter.proxy.switch import SESSION_METHOD_NAME
from exporter.rpc.http2.frames import (
    END_HEADERS,
    END_STREAM,
    HEADER_SIZE,
    FrameType,
    settings_frame,
    varint,
)
from tests.integration.cli_process import PATIENCE
from tests.integration.hostile import (
    ASK,
    MIB,
    STALL,
    block,
    connected,
    daemon,
    data,
    forget_peak,
    frame,
    is_answered,
    literal,
    memory_of,
    read_until,
    request,
    string,
)
from tests.integration.proxied import Proxy, proxy

MORE_BYTES = 224 * MIB
"""What an attack may make of the proxy's memory: windows, what may be held for a client, and the holes that
the allocator leaves between messages that grow side by side."""


@pytest.fixture(scope="module")
def running() -> Iterator[Proxy]:
    directory = Path(tempfile.mkdtemp(prefix="bke-", dir="/tmp"))  # the path of a socket has to be short
    try:
        with daemon(str(directory / "d.sock")), proxy(directory, f"unix://{directory}/d.sock") as running:
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def path_of(running: Proxy) -> str:
    return running.address.removeprefix("unix://")


def _references() -> Iterator[bytes]:
    """250 KB that refer to one header again and again: a GiB of headers."""
    value = b"v" * 3900
    yield frame(FrameType.HEADERS, END_HEADERS, 1, block(STALL) + b"\x40" + string(b"x") + string(value))
    for n in range(60):
        yield frame(FrameType.HEADERS, END_HEADERS, 3 + 2 * n, block(STALL) + b"\xbe" * 4000)


def _empty_data() -> Iterator[bytes]:
    yield request(1) + data(1, b"x")
    for _ in range(30):
        yield data(1, b"") * (MIB // HEADER_SIZE)


def _pinned_reads() -> Iterator[bytes]:
    yield request(1)
    for _ in range(2000):
        yield data(1, b"x") + frame(0xEE, 0, 0, bytes(60_000)) * 4


def _small_data() -> Iterator[bytes]:
    for stream_id in range(1, 17, 2):
        yield request(stream_id)
        for _ in range(10):
            yield data(stream_id, b"x") * 100_000


def _announced(path: str, prefix: bytes) -> Callable[[], Iterator[bytes]]:
    def attack() -> Iterator[bytes]:
        for stream_id in range(1, 61, 2):
            yield request(stream_id, path) + data(stream_id, prefix)
        for _ in range(300):
            for stream_id in range(1, 61, 2):
                yield data(stream_id, bytes(16_000))

    return attack


def _pings() -> Iterator[bytes]:
    for _ in range(200):
        yield frame(FrameType.PING, 0, 0, bytes(8)) * 10_000


def _settings() -> Iterator[bytes]:
    for n in range(2000):
        yield request(1 + 2 * n)
    for _ in range(5):
        yield frame(FrameType.SETTINGS, 0, 0, b"".join(struct.pack(">HL", 4, n % 9) for n in range(10_000)))


def _trailers() -> Iterator[bytes]:
    """A mebibyte of trailers, 60 times."""
    trailers = b"".join(literal(b"x-%d" % n, b"v" * 3900) for n in range(230))
    pieces = [trailers[n : n + 16_000] for n in range(0, len(trailers), 16_000)]
    for stream_id in range(1, 121, 2):
        yield request(stream_id) + frame(FrameType.HEADERS, END_STREAM, stream_id, pieces[0])
        for piece in pieces[1:]:
            yield frame(FrameType.CONTINUATION, 0, stream_id, piece)
        yield frame(FrameType.CONTINUATION, END_HEADERS, stream_id)


def _sessions() -> Iterator[bytes]:
    for n in range(2048):
        yield request(1 + 2 * n, SESSION_METHOD_NAME)


def _resets() -> Iterator[bytes]:
    for n in range(50_000):
        yield request(1 + 2 * n) + frame(FrameType.RST_STREAM, 0, 1 + 2 * n, bytes(4))


def _once(attack: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter((attack,))


LARGE = struct.pack(">BL", 0, 16 * MIB)

ATTACKS = {
    "references to a large header": _references,
    "empty DATA": _empty_data,
    "bytes that pin read buffers": _pinned_reads,
    "DATA of one byte": _small_data,
    "Solves that never come": _announced(SOLVE_METHOD, LARGE),
    "sessions of another field": _announced(SESSION_METHOD_NAME, LARGE + b"\x12" + varint(16 * MIB - 5)),
    "pings": _pings,
    "settings over many streams": _settings,
    "resets": _resets,
    "large trailers": _trailers,
    "sessions": _sessions,
    "a path that is not ASCII": _once(request(1, "/ä.B/C") + request(3, SOLVE_METHOD + "\xff")),
    "a header block that is none": _once(frame(FrameType.HEADERS, END_HEADERS, 1, b"\xff" * 40)),
    "headers twice": _once(request(1, SOLVE_METHOD) + request(1, SOLVE_METHOD)),
    "frames of no size": _once(settings_frame({5: 0}) + request(1, ASK)),
    "DATA without a window": _once(request(1) + data(1, b"") + data(1, b"x") + data(1, b"")),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_costs_little_and_other_clients_are_served(
    running: Proxy, attack: Callable[[], Iterator[bytes]], record_property: Callable[[str, object], None]
) -> None:
    assert is_answered(path_of(running))
    before = forget_peak(running.process.pid)
    with connected(path_of(running)) as connection:
        pieces: list[bytes] = []
        with suppress(ConnectionError):  # it has been cut off
            for piece in attack():
                pieces.append(piece)
                if sum(map(len, pieces)) > 60_000:
                    _send(connection, pieces)
            _send(connection, pieces)
        assert is_answered(path_of(running))
    more = memory_of(running.process.pid, "VmHWM") - before
    record_property("more_mib", more >> 20)
    print(f"{more / MIB:.0f} MiB more")
    assert more < MORE_BYTES


def _send(connection: socket.socket, pieces: list[bytes]) -> None:
    """Send without regard to credit, until the proxy closes the connection."""
    connection.sendall(b"".join(pieces))
    pieces.clear()


def test_a_client_that_uses_its_whole_credit(running: Proxy) -> None:
    """As above, with a client that keeps to its credit: it gets none beyond what may be held for it."""
    before = forget_peak(running.process.pid)
    streams = range(1, 41, 2)
    with connected(path_of(running)) as connection:
        for stream_id in streams:
            connection.sendall(request(stream_id, SOLVE_METHOD) + data(stream_id, LARGE))
        sent = _pour(connection, list(streams))
        assert is_answered(path_of(running))
    more = memory_of(running.process.pid, "VmHWM") - before
    print(f"{more / MIB:.0f} MiB more, {sent / MIB:.0f} MiB sent")
    assert more < MORE_BYTES


def test_stalled_streams_do_not_stop_other_calls_of_their_client(running: Proxy) -> None:
    """Forty, with a mebibyte each; the window of the connection is 16 MiB."""
    streams = range(1, 81, 2)
    with connected(path_of(running)) as connection:
        for stream_id in streams:
            connection.sendall(request(stream_id) + data(stream_id, bytes(5)))
        assert _pour(connection, list(streams)) > 39 * MIB
        connection.settimeout(PATIENCE)
        connection.sendall(request(101, SOLVE_METHOD) + data(101, b"\0\0\0\0\1\xff"))
        assert b"grpc-status" in read_until(connection, b"grpc-status")


def _pour(connection: socket.socket, streams: list[int]) -> int:
    """Send as much on each stream as there is credit for, up to 15 MiB; returns how much."""
    total, sent = 65_535 - 5 * len(streams), 0
    credit = dict.fromkeys(streams, MIB - 5)
    left = dict.fromkeys(streams, 15 * MIB)
    rest = b""
    connection.settimeout(2.0)
    while True:
        for stream_id in list(credit):
            while min(credit[stream_id], total, left[stream_id]) >= 16_000:
                connection.sendall(data(stream_id, bytes(16_000)))
                credit[stream_id] -= 16_000
                left[stream_id] -= 16_000
                total -= 16_000
                sent += 16_000
        try:
            received = connection.recv(65_536)
        except TimeoutError:
            return sent  # no more credit comes
        if not received:
            return sent
        rest += received
        while len(rest) >= HEADER_SIZE and len(rest) >= HEADER_SIZE + int.from_bytes(rest[:3], "big"):
            size = HEADER_SIZE + int.from_bytes(rest[:3], "big")
            found, rest = rest[:size], rest[size:]
            stream_id = int.from_bytes(found[5:9], "big")
            if found[3] == FrameType.RST_STREAM:
                credit.pop(stream_id, None)
            elif found[3] == FrameType.WINDOW_UPDATE and stream_id in credit:
                credit[stream_id] += int.from_bytes(found[9:], "big")
            elif found[3] == FrameType.WINDOW_UPDATE and not stream_id:
                total += int.from_bytes(found[9:], "big")
