"""Serializing and parsing frames, and the constants of RFC 9113."""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE = 9
DEFAULT_WINDOW = 65_535
DEFAULT_FRAME_SIZE = 16_384
MAX_WINDOW = 2**31 - 1
PING_SIZE = 8

_HEADER = struct.Struct(">LBL")  # the first word holds the length and the type
_SETTING = struct.Struct(">HL")
_WORD = struct.Struct(">L")


class FrameType(enum.IntEnum):
    """Frame types (RFC 9113, 6)."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY = 0x20


class Setting(enum.IntEnum):
    """Identifiers of settings (RFC 9113, 6.5.2; RFC 8441, 3; RFC 9218, 2.1)."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6
    ENABLE_CONNECT_PROTOCOL = 8
    NO_RFC7540_PRIORITIES = 9


class ErrorCode(enum.IntEnum):
    """Error codes of RST_STREAM and GOAWAY (RFC 9113, 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ProtocolError(Exception):
    """A connection error (RFC 9113, 5.4.1), or a stream that cannot be opened.

    Args:
        code: The error code for the peer.
        message: What is wrong.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def frame_header(length: int, frame_type: int, flags: int, stream_id: int) -> bytes:
    """Serialize a frame's header, the nine bytes before its payload (RFC 9113, 4.1)."""
    return _HEADER.pack(length << 8 | frame_type, flags, stream_id)


def parse_header(data: bytes, offset: int) -> tuple[int, int, int, int]:
    """Parse a frame's header: length, type, flags and stream ID."""
    word, flags, stream_id = _HEADER.unpack_from(data, offset)
    return word >> 8, word & 0xFF, flags, stream_id & MAX_WINDOW


def settings_frame(settings: dict[int, int]) -> bytes:
    """Serialize a SETTINGS frame."""
    payload = b"".join(_SETTING.pack(key, value) for key, value in settings.items())
    return frame_header(len(payload), FrameType.SETTINGS, 0, 0) + payload


def parse_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """Parse the payload of SETTINGS.

    Raises:
        ProtocolError: the length is wrong.
    """
    if len(payload) % _SETTING.size:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes")
    yield from _SETTING.iter_unpack(payload)


def window_update(stream_id: int, amount: int) -> bytes:
    """Serialize WINDOW_UPDATE, which gives the peer credit."""
    return frame_header(4, FrameType.WINDOW_UPDATE, 0, stream_id) + _WORD.pack(amount)


def rst_stream(stream_id: int, code: int) -> bytes:
    """Serialize RST_STREAM, which ends a stream immediately."""
    return frame_header(4, FrameType.RST_STREAM, 0, stream_id) + _WORD.pack(code)


def goaway(last_stream_id: int, code: int, text: bytes = b"") -> bytes:
    """Serialize GOAWAY, after which the peer opens no new streams."""
    payload = _WORD.pack(last_stream_id) + _WORD.pack(code) + text
    return frame_header(len(payload), FrameType.GOAWAY, 0, 0) + payload


def parse_goaway(payload: memoryview) -> int:
    """Parse the ID of the last stream that the peer has processed, or may process, from GOAWAY.

    Raises:
        ProtocolError: the length is wrong.
    """
    if len(payload) < 2 * _WORD.size:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"GOAWAY of {len(payload)} bytes")
    (value,) = _WORD.unpack_from(payload)
    return int(value) & MAX_WINDOW


def parse_word(payload: memoryview, frame_type: FrameType) -> int:
    """Parse a payload of one 32-bit number.

    Raises:
        ProtocolError: the length is wrong.
    """
    if len(payload) != _WORD.size:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"{frame_type.name} of {len(payload)} bytes")
    (value,) = _WORD.unpack(payload)
    return int(value)


def varint(value: int) -> bytes:
    """Encode a number as a varint: seven bits per byte, lowest first, as in protobuf (and RFC 7541, 5.1)."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def strip_padding(payload: memoryview, flags: int) -> memoryview:
    """The payload of DATA or HEADERS without padding (RFC 9113, 6.1).

    Raises:
        ProtocolError: the padding is longer than the payload.
    """
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a frame has more padding than payload")
    return payload[1 : len(payload) - payload[0]]
