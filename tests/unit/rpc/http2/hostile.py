"""Data from hostile peers, and its cost."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType as PythonFrame
from typing import Any

import hpack

from exporter.rpc.http2.budget import CLIENT_BYTES, Budget
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.frames import (
    END_HEADERS,
    PREFACE,
    FrameType,
    Setting,
    frame_header,
    settings_frame,
    window_update,
)
from exporter.rpc.http2.headers import MAX_HEADER_BYTES, Headers
from exporter.rpc.http2.relay import relay
from exporter.rpc.http2.stream import Stream
from tests.unit.rpc.http2.wire import REQUEST, Cable, Turn

MIB = 1 << 20
READ = 256 << 10
"""Bytes that asyncio reads from a socket at once."""


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return frame_header(len(payload), kind, flags, stream_id) + payload


def request(stream_id: int, headers: Headers = REQUEST, flags: int = END_HEADERS) -> bytes:
    """HEADERS whose block needs and leaves no table."""
    block = b"".join(
        b"\x00" + _string(name) + _string(value) for name, value in ((bytes(n), bytes(v)) for n, v in headers)
    )
    return frame(FrameType.HEADERS, flags, stream_id, block)


def _string(value: bytes) -> bytes:
    return bytes(hpack.hpack.encode_integer(len(value), 7)) + value


class Victim:
    """A connection whose peer is hostile, and one to a receiver that takes nothing: streams are relayed.

    Args:
        window: What the receiver takes on each stream.
        limit: How many streams it takes.
        max_header_bytes: See `Connection`.
    """

    def __init__(
        self, window: int = 0, limit: int | None = None, *, max_header_bytes: int = MAX_HEADER_BYTES
    ) -> None:
        self.turn = Turn()
        self.cables = Cable(), Cable()
        self.far = Connection(self.cables[1], self.turn, is_client=True)
        share = Budget().share(CLIENT_BYTES)
        self.near = Connection(
            self.cables[0], self.turn, is_client=False, share=share, max_header_bytes=max_header_bytes
        )
        self.streams: list[Stream] = []
        self.near.on_stream = self._take
        self.near.receive(PREFACE + settings_frame({}))
        settings = {int(Setting.INITIAL_WINDOW_SIZE): window}
        if limit is not None:
            settings[Setting.MAX_CONCURRENT_STREAMS] = limit
        self.far.receive(settings_frame(settings) + window_update(0, 16 * MIB))
        self.turn.run()

    def _take(self, stream: Stream, headers: Headers, end: bool) -> None:
        self.streams.append(stream)
        relay(stream, headers, self.far, end=end)

    def send(self, data: bytes, chunk: int = READ) -> None:
        """Receive bytes, read by read, until the connection is closed."""
        for position in range(0, len(data), chunk):
            if self.near.is_closed:
                break
            self.near.receive(bytes(bytearray(data[position : position + chunk])))  # a buffer of its own
            self.turn.run()

    def receive(self, data: bytes) -> None:
        """Receive bytes from the receiver."""
        self.far.receive(data)
        self.turn.run()


class Memory:
    """Bytes that Python has allocated since the block began.

    Attributes:
        held: At the end of the block.
        peak: At most.
    """

    held = 0
    peak = 0


@contextmanager
def measured() -> Iterator[Memory]:
    """Measure the memory of a block."""
    memory = Memory()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield memory
        held, peak = tracemalloc.get_traced_memory()
        memory.held, memory.peak = held - before, peak - before
    finally:
        tracemalloc.stop()


class EnoughError(Exception):
    """More lines were run than allowed."""


@contextmanager
def few_lines(limit: int) -> Iterator[Callable[[], int]]:
    """Bound the work of a block in lines of Python, which are the same on each machine, unlike seconds."""
    count = 0

    def trace(frame: PythonFrame, event: str, argument: Any) -> Any:
        nonlocal count
        if event == "line":
            count += 1
            if count > limit:
                raise EnoughError(f"more than {limit} lines were run")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lambda: count
    finally:
        sys.settrace(before)
