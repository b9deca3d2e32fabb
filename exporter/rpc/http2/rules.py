"""Validation of frames, settings and headers after RFC 9113, beyond what parsing them checks."""

from __future__ import annotations

import re

from exporter.rpc.http2.frames import (
    ACK,
    DEFAULT_FRAME_SIZE,
    MAX_WINDOW,
    PING_SIZE,
    ErrorCode,
    FrameType,
    ProtocolError,
    Setting,
)
from exporter.rpc.http2.headers import Headers

_LARGEST_FRAME_SIZE = 2**24 - 1

_OF_CONNECTIONS = frozenset({FrameType.SETTINGS, FrameType.PING, FrameType.GOAWAY})
_OF_STREAMS = frozenset(
    {
        FrameType.DATA,
        FrameType.HEADERS,
        FrameType.PRIORITY,
        FrameType.RST_STREAM,
        FrameType.PUSH_PROMISE,
        FrameType.CONTINUATION,
    }
)
_SIZES: dict[int, int] = {
    FrameType.PRIORITY: 5,
    FrameType.RST_STREAM: 4,
    FrameType.PING: PING_SIZE,
    FrameType.WINDOW_UPDATE: 4,
}


def check_frame(kind: int, flags: int, stream_id: int, length: int) -> None:
    """Check a frame's stream ID and length (RFC 9113, 4.2 and 6).

    Raises:
        ProtocolError: its type does not allow them.
    """
    if kind in _OF_STREAMS and not stream_id:
        text = f"a frame of type {kind} that belongs to no stream"
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, text)
    if kind in _OF_CONNECTIONS and stream_id:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"a frame of type {kind} on stream {stream_id}")
    size = 0 if kind == FrameType.SETTINGS and flags & ACK else _SIZES.get(kind, length)
    if length != size:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of type {kind} and {length} bytes")


def check_setting(key: int, value: int, *, is_of_server: bool) -> None:
    """Check a setting (RFC 9113, 6.5.2).

    Args:
        key: Its identifier. Unknown settings may have any value.
        value: Its value.
        is_of_server: Whether the sender is the server.

    Raises:
        ProtocolError: the value is not allowed.
    """
    code = ErrorCode.PROTOCOL_ERROR
    match key:
        case Setting.ENABLE_PUSH:
            is_allowed = value == 0 or (value == 1 and not is_of_server)
        case Setting.ENABLE_CONNECT_PROTOCOL | Setting.NO_RFC7540_PRIORITIES:
            is_allowed = value in {0, 1}
        case Setting.INITIAL_WINDOW_SIZE:
            is_allowed = value <= MAX_WINDOW
            code = ErrorCode.FLOW_CONTROL_ERROR
        case Setting.MAX_FRAME_SIZE:
            is_allowed = DEFAULT_FRAME_SIZE <= value <= _LARGEST_FRAME_SIZE
        case _:
            is_allowed = True
    if not is_allowed:
        raise ProtocolError(code, f"the value {value} for setting {key}")


_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_FORBIDDEN_BYTE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
_PATH = re.compile(rb"[\x21-\x7e]+").fullmatch

_OF_REQUESTS = frozenset({b":method", b":scheme", b":authority", b":path"})
_OF_ANSWERS = frozenset({b":status"})
_OF_HTTP1 = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})


def wrong_request(headers: Headers) -> str:
    """Why the headers of a request are malformed (RFC 9113, 8.2 and 8.3); empty if they are not.

    A path that is not ASCII must not be relayed, because it terminates the whole server of gRPC's C core.
    """
    text = _wrong_fields(headers, _OF_REQUESTS)
    if text:
        return text
    path = next((value for name, value in headers if name == b":path"), b"")
    if not _PATH(path) or all(name != b":method" for name, _ in headers):
        return "it has no method, or no path that is one"
    return ""


def wrong_answer(headers: Headers, *, is_last: bool) -> str:
    """Why the headers or trailers of a response are malformed; empty if they are not.

    Args:
        headers: The headers or trailers.
        is_last: Whether they are trailers, which follow the final headers.
    """
    return _wrong_fields(headers, frozenset() if is_last else _OF_ANSWERS)


def wrong_trailers(headers: Headers) -> str:
    """Why the trailers of a request are malformed; empty if they are not."""
    return _wrong_fields(headers, frozenset())


def _wrong_fields(headers: Headers, pseudo: frozenset[bytes]) -> str:
    seen: set[bytes] = set()
    has_others = False
    for name, value in headers:
        if name.startswith(b":"):
            if has_others or name in seen or name not in pseudo:
                return f"the pseudo-header {_shown(name)} is unknown, repeated or late"
            seen.add(name)
        elif not _NAME(name) or name in _OF_HTTP1 or (name == b"te" and value != b"trailers"):
            return f"there is a header {_shown(name)}"
        else:
            has_others = True
        if _FORBIDDEN_BYTE(value):
            return f"the value of {_shown(name)} has a control character"
    return ""


def _shown(name: bytes) -> str:
    """Format a header's name for a message. Messages never contain values, which may be secrets."""
    return repr(bytes(name[:40]))[1:]
