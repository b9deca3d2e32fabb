"""JSON after a round trip through Go's ``interface{}``: read into maps and float64s, and written again."""

from __future__ import annotations

import math
from decimal import Decimal

from exporter.image import ImageError
from exporter.image.go import json as gojson
from exporter.image.go.json import Node

__all__ = ["normalize"]


def normalize(data: bytes) -> bytes:
    """Write a valid JSON value as Go does after reading it into an ``interface{}``.

    Keys are sorted, the last of duplicate keys wins, and numbers are rounded to float64.

    Raises:
        ImageError: a number is too large, with Go's text; or the value is nested too deeply (about a thousand
            levels).
    """
    try:
        return gojson.marshal(_value(data, gojson.parse(data)))
    except RecursionError:
        raise ImageError("JSON is nested too deeply") from None


def _value(data: bytes, node: Node) -> object:
    match node.kind:
        case "object":
            members = {key: _value(data, item) for key, item in zip(node.keys, node.items, strict=True)}
            return gojson.sort_keys(members)
        case "array":
            return [_value(data, item) for item in node.items]
        case "string":
            return gojson.unquote(data[node.start : node.end])
        case "number":
            return gojson.Verbatim(_number(data[node.start : node.end].decode()))
        case kind:
            return None if kind == "null" else data[node.start : node.end] == b"true"


def _number(literal: str) -> bytes:
    """A number as ``encoding/json`` writes a float64: with the fewest digits that identify it."""
    number = float(literal)
    if math.isinf(number):
        raise ImageError(f"json: cannot unmarshal number {literal} into Go value of type float64")
    shortest = Decimal(repr(number))
    if number and not 1e-6 <= abs(number) < 1e21:
        sign, digits, _ = shortest.as_tuple()
        mantissa = "".join(map(str, digits)).rstrip("0")
        point = f"{mantissa[0]}.{mantissa[1:]}" if len(mantissa) > 1 else mantissa
        exponent = shortest.adjusted()
        return f"{'-' * sign}{point}e{exponent:+d}".encode()
    text = f"{shortest:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).encode()
