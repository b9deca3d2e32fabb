"""Parsing protobuf messages of peers, whose size in memory is limited as well.

An empty submessage takes two bytes on the wire, but about a hundred in memory: a message of 16 MiB can become
one of 800 MiB. So the fields of large messages are counted before they are parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from exporter.errors import InvalidArgumentError, ResourceExhaustedError

MAX_FIELDS = 1 << 18
"""The maximum number of fields in a message, including those of its submessages. A build of 5000 steps has
about 200,000."""

_SMALLEST_FIELD = 2
"""Bytes. Shorter messages than `MAX_FIELDS` times this need not be counted."""

_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)
_SIZES = {_FIXED64: 8, _FIXED32: 4, _GROUP: 0, _END_GROUP: 0}

M = TypeVar("M", bound=Message)


def parse(kind: type[M], data: bytes) -> M:
    """Parse a message.

    Args:
        kind: Its type.
        data: The serialized message.

    Raises:
        ResourceExhaustedError: it has too many fields.
        InvalidArgumentError: it is malformed.
    """
    check_fields(cast(Descriptor, kind.DESCRIPTOR), data)
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InvalidArgumentError(f"a message cannot be read: {error}") from error


def counting(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Have a deserializer count fields first, if it is ``FromString`` of a message type.

    Args:
        deserialize: The deserializer.
    """
    kind = getattr(deserialize, "__self__", None)
    if not isinstance(kind, type) or not issubclass(kind, Message):
        return deserialize

    def counted(data: bytes) -> Any:
        return parse(kind, data)

    return counted


def check_fields(descriptor: Descriptor, data: bytes, limit: int = MAX_FIELDS) -> None:
    """Count the fields of a serialized message. A malformed part is not counted, because parsing fails.

    Args:
        descriptor: The message's type.
        data: The serialized message.
        limit: The maximum number of fields.

    Raises:
        ResourceExhaustedError: there are more.
    """
    if len(data) <= limit * _SMALLEST_FIELD:
        return
    count = 0
    waiting = [(_messages_in(descriptor), 0, len(data))]
    while waiting:
        messages, position, end = waiting.pop()
        while position < end:
            tag, position = _varint(data, position, end)
            count += 1
            if count > limit:
                raise ResourceExhaustedError(
                    f"a message of type {descriptor.full_name} has more than {limit} fields"
                )
            kind = tag & 7
            if kind == _BYTES:
                length, position = _varint(data, position, end)
                inner = messages.get(tag >> 3)
                if inner is not None and length:
                    waiting.append((_messages_in(inner), position, min(position + length, end)))
                position += length
            elif kind == _VARINT:
                _, position = _varint(data, position, end)
            elif kind in _SIZES:
                position += _SIZES[kind]
            else:
                return


@cache
def _messages_in(descriptor: Descriptor) -> dict[int, Descriptor]:
    """The types of a message's submessages, by field number. Map entries are submessages, too."""
    found: list[FieldDescriptor] = list(descriptor.fields)
    return {field.number: field.message_type for field in found if field.message_type is not None}


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Parse a varint. Returns it and the position after it, which is `end` if it is cut off."""
    value = shift = 0
    while position < end:
        byte = data[position]
        position += 1
        if byte < 0x80:
            return value | byte << shift, position
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift > 63:
            return value, end
    return value, end
