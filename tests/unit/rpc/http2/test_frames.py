from __future__ import annotations

from exporter.rpc.http2.frames import ErrorCode
from exporter.rpc.http2.messages import HeldError


def test_error_codes_are_those_of_the_rfc() -> None:
    """RFC 9113, section 7; those that nobody here names are left out."""
    assert {code.name: code.value for code in ErrorCode} == {
        "NO_ERROR": 0,
        "PROTOCOL_ERROR": 1,
        "INTERNAL_ERROR": 2,
        "FLOW_CONTROL_ERROR": 3,
        "SETTINGS_TIMEOUT": 4,
        "STREAM_CLOSED": 5,
        "FRAME_SIZE_ERROR": 6,
        "REFUSED_STREAM": 7,
        "CANCEL": 8,
        "COMPRESSION_ERROR": 9,
        "ENHANCE_YOUR_CALM": 11,
    }


def test_a_message_that_cannot_be_held_exhausts_resources() -> None:
    assert HeldError().is_too_large
