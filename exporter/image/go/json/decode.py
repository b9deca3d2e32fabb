"""Decoding JSON into typed values by the rules of Go's ``encoding/json`` (1.27).

A `Type` stands for a Go type. These rules of Go may surprise:

- Keys match fields under Unicode simple case folding, and *every* matching key is decoded, in document order,
  into the same field.
- ``null`` leaves strings, numbers, booleans and structs unchanged, and clears times, pointers, slices and
  maps.
- A second array for the same field is decoded on top of the elements of the first one.
- A value of the wrong type does not stop decoding. The first such error in document order is reported.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from exporter.errors import ImageError
from exporter.image.go.json.syntax import Node, parse, unquote
from exporter.image.go.time import Time

T = TypeVar("T")
E = TypeVar("E")

# The only non-ASCII characters that fold to ASCII letters are the long s and the Kelvin sign.
_FOLD = {ord(c): c.lower() for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"} | {0x17F: "s", 0x212A: "k"}

_MAX_INT64 = 2**63 - 1
_POINTER_ESCAPES = {"~": "~0", "/": "~1"}


def fold(key: str) -> str:
    """A key, folded as Go does to compare it with field names (which are all ASCII here)."""
    return key.translate(_FOLD)


class Decoder:
    """The state of one decoding: the text, the current path in it, and the first error."""

    def __init__(self, data: bytes, root_name: str) -> None:
        self.data = data
        self.error: str | None = None
        self._root_name = root_name
        self._path: list[str] = []

    def text(self, node: Node) -> str:
        """The decoded text of a string."""
        return unquote(self.data[node.start : node.end])

    def raw(self, node: Node) -> bytes:
        """The bytes of a value, unchanged from the document."""
        return self.data[node.start : node.end]

    def enter(self, step: str) -> None:
        """Enter a member or an element."""
        self._path.append(step)

    def leave(self) -> None:
        """Leave it again."""
        self._path.pop()

    def fail(self, message: str) -> None:
        """Record an error; only the first one is kept."""
        if self.error is None:
            self.error = message

    def mismatch(self, value: str, go_type: str) -> None:
        """Record that `value` (its kind in Go's words, or more) cannot be decoded into a `go_type`."""
        self.fail(f"json: cannot unmarshal {value} into {self._target()} of type {go_type}")

    def _target(self) -> str:
        if not self._path:
            return "Go value"
        path = ".".join("".join(_POINTER_ESCAPES.get(c, c) for c in step) for step in self._path)
        # Go takes a final step of digits for an array index, even if it is the key of an object.
        last = path.rpartition(".")[2]
        field = "" if last.isascii() and last.isdigit() else "Go struct field "
        return f"{field}{self._root_name}.{path}"


class Type(ABC, Generic[T]):
    """A type to decode a value into.

    Attributes:
        go_type: The type's name in Go's error messages.
    """

    go_type: str

    @abstractmethod
    def _zero(self) -> T:
        """The value of a field that is missing from the document."""

    @abstractmethod
    def _decode(self, decoder: Decoder, node: Node, current: T) -> T:
        """Decode `node` on top of the field's current value."""


class String(Type[str]):
    """Go's ``string``, or a type derived from it."""

    def __init__(self, go_type: str = "string") -> None:
        self.go_type = go_type

    def _zero(self) -> str:
        return ""

    def _decode(self, decoder: Decoder, node: Node, current: str) -> str:
        if node.kind == "string":
            return decoder.text(node)
        if node.kind != "null":
            decoder.mismatch(node.kind, self.go_type)
        return current


class Bool(Type[bool]):
    """Go's ``bool``."""

    go_type = "bool"

    def _zero(self) -> bool:
        return False

    def _decode(self, decoder: Decoder, node: Node, current: bool) -> bool:
        if node.kind == "bool":
            return decoder.raw(node) == b"true"
        if node.kind != "null":
            decoder.mismatch(node.kind, self.go_type)
        return current


class Int64(Type[int]):
    """Go's ``int`` or ``int64``, or a type derived from them: accepts only integer literals in range."""

    def __init__(self, go_type: str = "int") -> None:
        self.go_type = go_type

    def _zero(self) -> int:
        return 0

    def _decode(self, decoder: Decoder, node: Node, current: int) -> int:
        if node.kind == "number":
            literal = decoder.raw(node).decode()
            digits = literal.removeprefix("-")
            # Check the length first: Python refuses to convert very long integers.
            if digits.isdigit() and len(digits) < 20 and -_MAX_INT64 - 1 <= int(literal) <= _MAX_INT64:
                return int(literal)
            decoder.mismatch(f"number {literal}", self.go_type)
        elif node.kind != "null":
            decoder.mismatch(node.kind, self.go_type)
        return current


class Timestamp(Type["Time | None"]):
    """Go's ``*time.Time``."""

    go_type = "time.Time"

    def _zero(self) -> Time | None:
        return None

    def _decode(self, decoder: Decoder, node: Node, current: Time | None) -> Time | None:
        if node.kind == "null":
            return None
        if node.kind != "string":
            decoder.mismatch(node.kind, self.go_type)
            return current
        try:
            return Time.parse(decoder.text(node))
        except ImageError as error:
            decoder.fail(str(error))
            return current


class Raw(Type[bytes]):
    """Go's ``json.RawMessage``: any value, unchanged from the document."""

    go_type = "json.RawMessage"

    def _zero(self) -> bytes:
        return b""

    def _decode(self, decoder: Decoder, node: Node, current: bytes) -> bytes:
        return decoder.raw(node)


class SliceValue(list[E]):
    """The elements of a slice, and those of its backing array beyond its end.

    Go decodes element *i* of a later array into what position *i* last held, even if an array in between was
    shorter.
    """

    __slots__ = ("memory",)

    def __init__(self, memory: list[E], length: int) -> None:
        super().__init__(memory[:length])
        self.memory = memory


class Slice(Type["list[E] | None"]):
    """A Go slice; None is the nil slice, which is not the same as an empty one."""

    def __init__(self, element: Type[E], go_type: str | None = None) -> None:
        self.go_type = go_type or f"[]{element.go_type}"
        self._element = element

    def _zero(self) -> list[E] | None:
        return None

    def _decode(self, decoder: Decoder, node: Node, current: list[E] | None) -> list[E] | None:
        if node.kind == "null":
            return None
        if node.kind != "array":
            decoder.mismatch(node.kind, self.go_type)
            return current
        if not node.items:
            return SliceValue([], 0)
        memory = current.memory if isinstance(current, SliceValue) else []
        memory.extend(self._element._zero() for _ in range(len(node.items) - len(memory)))
        for index, item in enumerate(node.items):
            decoder.enter(str(index))
            memory[index] = self._element._decode(decoder, item, memory[index])
            decoder.leave()
        return SliceValue(memory, len(node.items))


class Map(Type["dict[str, E] | None"]):
    """A Go map with string keys; None is the nil map."""

    def __init__(self, element: Type[E], go_type: str | None = None) -> None:
        self.go_type = go_type or f"map[string]{element.go_type}"
        self._element = element

    def _zero(self) -> dict[str, E] | None:
        return None

    def _decode(self, decoder: Decoder, node: Node, current: dict[str, E] | None) -> dict[str, E] | None:
        if node.kind == "null":
            return None
        if node.kind != "object":
            decoder.mismatch(node.kind, self.go_type)
            return current
        values = {} if current is None else current
        for key, item in zip(node.keys, node.items, strict=True):
            decoder.enter(key)
            values[key] = self._element._decode(decoder, item, self._element._zero())
            decoder.leave()
        return values


class Struct(Type[dict[str, Any]]):
    """A Go struct: a dict with every field under the name given here; unknown keys are skipped."""

    def __init__(self, go_type: str, fields: Mapping[str, Type[Any]]) -> None:
        self.go_type = go_type
        self._fields = dict(fields)
        self._folded = {fold(name): name for name in fields}

    def _zero(self) -> dict[str, Any]:
        return {name: field._zero() for name, field in self._fields.items()}

    def _decode(self, decoder: Decoder, node: Node, current: dict[str, Any]) -> dict[str, Any]:
        if node.kind == "object":
            for key, item in zip(node.keys, node.items, strict=True):
                name = self._folded.get(fold(key))
                if name is not None:
                    decoder.enter(key)
                    current[name] = self._fields[name]._decode(decoder, item, current[name])
                    decoder.leave()
        elif node.kind != "null":
            decoder.mismatch(node.kind, self.go_type)
        return current


class Pointer(Type["T | None"]):
    """A pointer to a Go value; ``null`` makes it nil."""

    def __init__(self, target: Type[T]) -> None:
        self.go_type = target.go_type
        self._target = target

    def _zero(self) -> T | None:
        return None

    def _decode(self, decoder: Decoder, node: Node, current: T | None) -> T | None:
        if node.kind == "null":
            return None
        return self._target._decode(decoder, node, self._target._zero() if current is None else current)


def decode_node(data: bytes, node: Node, into: Type[T], root_name: str = "") -> T:
    """Decode a parsed text; see `decode`."""
    decoder = Decoder(data, root_name)
    value = into._decode(decoder, node, into._zero())
    if decoder.error is not None:
        raise ImageError(decoder.error)
    return value


def decode(data: bytes, into: Type[T], root_name: str = "") -> T:
    """Decode a whole JSON text, as ``json.Unmarshal`` into a new variable does.

    Args:
        data: The text.
        into: The type of the variable.
        root_name: The name of that type without its package, as errors show it before a path; empty for
            anonymous structs, slices and maps.

    Raises:
        ImageError: the text is not valid JSON, or a value has the wrong type; with Go's text.
    """
    return decode_node(data, parse(data), into, root_name)
