"""Splitting received bytes into frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from exporter.rpc.http2.frames import (
    ACK,
    END_STREAM,
    HEADER_SIZE,
    PADDED,
    PREFACE,
    ErrorCode,
    FrameType,
    ProtocolError,
    parse_header,
    parse_word,
    strip_padding,
)
from exporter.rpc.http2.headers import BlockReader
from exporter.rpc.http2.rules import check_frame

MAX_FRAME_SIZE = 64 << 10
"""Our SETTINGS_MAX_FRAME_SIZE. Go sends frames of 16 KiB whatever the limit."""

_DATA, _WINDOW_UPDATE = int(FrameType.DATA), int(FrameType.WINDOW_UPDATE)
"""The most frequent frame types, as integers: access to members of an enum and their comparison are slow."""


class FrameHandler(Protocol):
    """Processes frames. The methods may raise `ProtocolError`, which ends the connection."""

    @property
    def is_closed(self) -> bool:
        """Whether the connection is closed, so that no more frames are wanted."""
        ...

    @property
    def has_settings(self) -> bool:
        """Whether the peer has sent SETTINGS, which must come first (RFC 9113, 3.4)."""
        ...

    def on_data(
        self, stream_id: int, pieces: Sequence[bytes | memoryview], amount: int, *, end: bool
    ) -> None:
        """DATA of a stream, from one frame or several. `amount` counts the padding, too."""
        ...

    def on_credit(self, stream_id: int, amount: int) -> None:
        """A WINDOW_UPDATE."""
        ...

    def on_frame(self, kind: int, flags: int, stream_id: int, payload: memoryview) -> None:
        """A frame of another type, whose length and stream ID are valid for it."""
        ...


class FrameReader:
    """Splits received bytes into frames.

    Args:
        handler: Processes the frames.
        blocks: The header blocks. While one is incomplete, only CONTINUATION may follow (RFC 9113, 6.10).
        needs_preface: Whether the peer is a client, which starts with a preface.
    """

    def __init__(self, handler: FrameHandler, blocks: BlockReader, *, needs_preface: bool) -> None:
        self._handler = handler
        self._blocks = blocks
        self._needs_preface = needs_preface
        self._rest = b""

    def receive(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Process received bytes. An incomplete frame is kept for the next call.

        Raises:
            ProtocolError: they violate the protocol.
        """
        data = b"".join((self._rest, *pieces))
        handler, blocks = self._handler, self._blocks
        position, end = 0, len(data)
        if self._needs_preface:
            if end < len(PREFACE) and PREFACE.startswith(data):
                self._rest = data
                return
            if not data.startswith(PREFACE):
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "the peer does not speak HTTP/2")
            position = len(PREFACE)
            self._needs_preface = False
        view = memoryview(data)
        while end - position >= HEADER_SIZE:
            length, kind, flags, stream_id = parse_header(data, position)
            if length > MAX_FRAME_SIZE:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            stop = position + HEADER_SIZE + length
            if stop > end:
                break
            if not handler.has_settings and (kind != FrameType.SETTINGS or flags & ACK):
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "the peer does not begin with settings")
            if blocks.is_open and kind != FrameType.CONTINUATION:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a header block is cut off")
            if kind == _DATA:
                position = self._receive_data(data, position)
            else:
                payload = view[position + HEADER_SIZE : stop]
                position = stop
                if kind == _WINDOW_UPDATE:
                    handler.on_credit(stream_id, parse_word(payload, FrameType.WINDOW_UPDATE))
                else:
                    check_frame(kind, flags, stream_id, length)
                    handler.on_frame(kind, flags, stream_id, payload)
            if handler.is_closed:
                return
        self._rest = data[position:]

    def _receive_data(self, data: bytes, position: int) -> int:
        """Process a DATA frame and those of the same stream right behind it; return the position after them.

        DATA mostly comes in long runs, and a run costs little more than one frame.
        """
        _, _, flags, stream_id = parse_header(data, position)
        view, end = memoryview(data), len(data)
        pieces: list[bytes | memoryview] = []
        amount = 0
        is_last = False
        while end - position >= HEADER_SIZE and not is_last:
            length, kind, flags, found_id = parse_header(data, position)
            stop = position + HEADER_SIZE + length
            if kind != _DATA or found_id != stream_id or stop > end or length > MAX_FRAME_SIZE:
                break
            payload = view[position + HEADER_SIZE : stop]
            pieces.append(strip_padding(payload, flags) if flags & PADDED else payload)
            amount += length
            position = stop
            is_last = bool(flags & END_STREAM)
        self._handler.on_data(stream_id, pieces, amount, end=is_last)
        return position
