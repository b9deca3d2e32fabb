"""Handwritten HTTP/2, for data that no library would send."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from contextlib import suppress

Header = tuple[bytes, bytes]

HEADERS, SETTINGS, DATA = 1, 4, 0
END_HEADERS, END_STREAM = 4, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_PATIENCE = 30.0


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def block(headers: Sequence[Header]) -> bytes:
    """Headers as literals; each shorter than 127 bytes."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers)


def call(path: bytes, *more: Header, message: bytes = b"\0\0\0\0\0") -> bytes:
    """A connection with one gRPC call."""
    headers = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *more,
    ]
    return (
        PREFACE
        + frame(SETTINGS, 0, 0, b"")
        + frame(HEADERS, END_HEADERS, 1, block(headers))
        + frame(DATA, END_STREAM, 1, message)
    )


RESET = b"\x00\x00\x04\x03\x00\x00\x00\x00\x01"
"""The beginning of what ends the first stream without an answer."""


async def send(socket_path: str, data: bytes, *, until: Sequence[bytes] = (b"grpc-status", RESET)) -> bytes:
    """Send bytes to a Unix socket; returns the response, up to one of `until` or the end."""
    reader, writer = await asyncio.open_unix_connection(socket_path)
    answer = b""
    try:
        writer.write(data)
        async with asyncio.timeout(_PATIENCE):
            with suppress(ConnectionError):
                while not any(text in answer for text in until) and (more := await reader.read(1 << 16)):
                    answer += more
    finally:
        writer.close()
    return answer


def _text(value: bytes) -> bytes:
    assert len(value) < 127
    return bytes((len(value),)) + value
