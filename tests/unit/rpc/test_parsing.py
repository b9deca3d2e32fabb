"""Messages that are small on the wire and large in memory."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from exporter.errors import InvalidArgumentError, ResourceExhaustedError
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.rpc.parsing import MAX_FIELDS, check_fields, counting, parse

SOLVE = control_pb2.SolveRequest
EXPORTER, FRONTEND_ATTR, ENTITLEMENT, CACHE, DEFINITION = b"\x6a", b"\x3a", b"\x4a", b"\x42", b"\x12"


def field(tag: bytes, value: bytes) -> bytes:
    size, length = b"", len(value)
    while length > 0x7F:
        size += bytes((length & 0x7F | 0x80,))
        length >>= 7
    return tag + size + bytes((length,)) + value


@pytest.mark.parametrize(
    "data",
    [
        EXPORTER + b"\0",
        ENTITLEMENT + b"\0",
        FRONTEND_ATTR + b"\2\x0a\0",
        b"\x58\1",
        field(DEFINITION, b"\x12\0" * 1000),
        field(CACHE, field(b"\x22", b"\x12\0" * 1000)),
    ],
)
def test_a_message_that_expands_is_refused(data: bytes) -> None:
    data *= (4 << 20) // len(data)
    with pytest.raises(ResourceExhaustedError, match="SolveRequest has more than 262144 fields"):
        parse(SOLVE, data)


def test_fields_are_counted_up_to_the_limit_inclusively() -> None:
    unit = field(EXPORTER, b"\x0a\3abc")  # two fields
    check_fields(SOLVE.DESCRIPTOR, unit * 50, limit=100)
    with pytest.raises(ResourceExhaustedError):
        check_fields(SOLVE.DESCRIPTOR, unit * 50 + b"\x58\1", limit=100)


def test_contents_of_bytes_are_not_counted() -> None:
    data = field(DEFINITION, field(b"\x0a", EXPORTER + b"\0" * 8000) * 2)
    check_fields(SOLVE.DESCRIPTOR, data, limit=3)


def test_unknown_fields_of_all_kinds_are_skipped() -> None:
    unknown = (
        field(b"\xfa\x7f", bytes(50)) + b"\xf9\x7f" + bytes(8) + b"\xfd\x7f" + bytes(4) + b"\xf8\x7f\xff\1"
    )
    check_fields(SOLVE.DESCRIPTOR, unknown, limit=4)
    with pytest.raises(ResourceExhaustedError):
        check_fields(SOLVE.DESCRIPTOR, unknown, limit=3)


def test_a_large_message_of_few_fields_is_parsed() -> None:
    request = SOLVE(Ref="r", FrontendAttrs={f"key {n}": "v" * 1000 for n in range(5000)})
    assert parse(SOLVE, request.SerializeToString()) == request


@pytest.mark.parametrize("end", [b"\x6a", b"\x6a\xff", b"\x6a\5abc", b"\xff" * 12, b"\x6f"])
def test_what_is_malformed_is_left_to_the_parser(end: bytes) -> None:
    data = field(DEFINITION, bytes(0)) + field(b"\x2a", b"x" * (2 * MAX_FIELDS)) + end
    check_fields(SOLVE.DESCRIPTOR, data)
    with pytest.raises(InvalidArgumentError):
        parse(SOLVE, data)


def test_other_deserializers_are_left_alone() -> None:
    assert counting(bytes.decode) is bytes.decode
    counted = counting(SOLVE.FromString)
    found = counted(SOLVE(Ref="r").SerializeToString())
    assert isinstance(found, Message)
    with pytest.raises(ResourceExhaustedError):
        counted(EXPORTER + b"\0" + (EXPORTER + b"\0") * MAX_FIELDS)
