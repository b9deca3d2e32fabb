"""Hostile peers: what they send over a socket, a daemon that reads nothing, and the memory of a process."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from exporter.proxy.switch import SESSION_METHOD_NAME
from exporter.rpc.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    HEADER_SIZE,
    PREFACE,
    FrameType,
    frame_header,
    settings_frame,
    varint,
)
from tests.integration.cli_process import PATIENCE

MIB = 1 << 20

ASK = "/a.B/Ask"
STALL = "/a.B/Stall"


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return frame_header(len(payload), kind, flags, stream_id) + payload


def literal(name: bytes, value: bytes) -> bytes:
    return b"\x00" + string(name) + string(value)


def string(value: bytes) -> bytes:
    size = len(value)
    return (bytes((size,)) if size < 127 else b"\x7f" + varint(size - 127)) + value


def block(path: str) -> bytes:
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b"te", b"trailers")]
    return b"".join(literal(name, value) for name, value in fields)


def request(stream_id: int, path: str = STALL, flags: int = END_HEADERS) -> bytes:
    return frame(FrameType.HEADERS, flags, stream_id, block(path))


def data(stream_id: int, payload: bytes) -> bytes:
    return frame(FrameType.DATA, 0, stream_id, payload)


class Daemon(asyncio.Protocol):
    """Answers calls of `ASK`; takes no DATA, ever."""

    def __init__(self) -> None:
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(settings_frame({4: 0}))

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._rest = (self._rest + data).removeprefix(PREFACE)
        while len(self._rest) >= HEADER_SIZE:
            size = HEADER_SIZE + int.from_bytes(self._rest[:3], "big")
            if len(self._rest) < size:
                break
            found, self._rest = self._rest[:size], self._rest[size:]
            stream_id = int.from_bytes(found[5:9], "big")
            if found[3] == FrameType.SETTINGS and not found[4] & ACK:
                self._transport.write(frame(FrameType.SETTINGS, ACK, 0))
            elif found[3] == FrameType.HEADERS and ASK.encode() in found:
                answer = literal(b":status", b"200") + literal(b"grpc-status", b"0")
                flags = END_HEADERS | END_STREAM
                self._transport.write(frame(FrameType.HEADERS, flags, stream_id, answer))
            elif found[3] == FrameType.HEADERS and SESSION_METHOD_NAME.encode() in found:
                answer = literal(b":status", b"200")
                self._transport.write(frame(FrameType.HEADERS, END_HEADERS, stream_id, answer))


@contextmanager
def daemon(path: str) -> Iterator[None]:
    """Run a daemon in a thread."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_unix_server(Daemon, path))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def connected(path: str) -> Iterator[socket.socket]:
    """Connect to a Unix socket, and speak HTTP/2."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)  # waits while the queue is full
        connection.settimeout(PATIENCE)
        connection.sendall(PREFACE + settings_frame({}))
        yield connection


def is_answered(path: str, method: str = ASK) -> bool:
    """Whether a client is served."""
    with connected(path) as connection, suppress(ConnectionError):
        connection.sendall(request(1, method) + frame(FrameType.DATA, END_STREAM, 1, bytes(5)))
        return b"grpc-status" in read_until(connection, b"grpc-status")
    return False


def read_until(connection: socket.socket, text: bytes) -> bytes:
    """Read until there is a text, or the end."""
    found = b""
    while text not in found and (received := connection.recv(65536)):
        found += received
    return found


def send_message(
    connection: socket.socket, stream_id: int, message: bytes, *, compressed: bool = False
) -> bytes:
    """Send the only message of a call, as credit allows; returns what comes until the call has ended."""
    rest = struct.pack(">BL", compressed, len(message)) + message
    credit, total, found, pending = MIB, 65_535, b"", b""
    while b"grpc-status" not in found:
        while rest and (size := min(credit, total, 16_000, len(rest))) > 0:
            piece, rest = rest[:size], rest[size:]
            credit -= size
            total -= size
            connection.sendall(frame(FrameType.DATA, 0 if rest else END_STREAM, stream_id, piece))
        if not (received := connection.recv(65536)):
            break
        found += received
        pending += received
        while len(pending) >= HEADER_SIZE:
            size = HEADER_SIZE + int.from_bytes(pending[:3], "big")
            if len(pending) < size:
                break
            kind, where, payload = pending[3], pending[5:9], pending[9:size]
            pending = pending[size:]
            if kind == FrameType.WINDOW_UPDATE and any(where):
                credit += int.from_bytes(payload, "big")
            elif kind == FrameType.WINDOW_UPDATE:
                total += int.from_bytes(payload, "big")
    return found


def memory_of(pid: int, what: str) -> int:
    """A line of ``/proc/PID/status``, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{what}:")[2].split()[0]) << 10


def forget_peak(pid: int) -> int:
    """Have the peak count from here, where the system allows it; returns what is used now."""
    with suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    return memory_of(pid, "VmRSS")
