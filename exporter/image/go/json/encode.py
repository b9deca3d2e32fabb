"""Writing JSON as Go's ``encoding/json`` does; used through `exporter.image.go.json`.

The encoder is msgspec's. It writes strings as Go does, except for the five characters that Go escapes for
HTML and JavaScript. In valid JSON these only occur inside strings, so they can be escaped afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec

T = TypeVar("T")

Verbatim = msgspec.Raw
"""JSON that `marshal` copies, apart from HTML escaping. It must be valid and without whitespace."""

_HTML = ((b"<", b"\\u003c"), (b">", b"\\u003e"), (b"&", b"\\u0026"))
_LINE_SEPARATORS = (("\u2028".encode(), b"\\u2028"), ("\u2029".encode(), b"\\u2029"))
_STRING_OR_BLANKS = re.compile(rb'("[^"\\]*+(?:\\.[^"\\]*+)*+")|[ \t\r\n]++')
_SURROGATES = re.compile("[\ud800-\udfff]")

_encoder = msgspec.json.Encoder()


def escape_html(data: bytes) -> bytes:
    """Escape ``<``, ``>``, ``&``, U+2028 and U+2029 in a valid JSON text, which need not be valid UTF-8."""
    for raw, escaped in _HTML:
        if raw in data:
            data = data.replace(raw, escaped)
    # Searching for one byte is much faster than searching for three.
    if b"\xe2" in data:
        for raw, escaped in _LINE_SEPARATORS:
            data = data.replace(raw, escaped)
    return data


def strip_blanks(data: bytes | msgspec.Raw) -> bytes:
    """A valid JSON value without whitespace between tokens; everything else keeps its spelling."""
    try:
        return msgspec.json.format(data, indent=-1)
    except (msgspec.DecodeError, RecursionError):
        # Too deep for msgspec, or with an unpaired surrogate. Neither is an error in Go.
        return _STRING_OR_BLANKS.sub(rb"\1", bytes(data))


def compact(data: bytes) -> bytes:
    """A valid JSON value without whitespace and with HTML escaped; everything else keeps its spelling."""
    return escape_html(strip_blanks(data))


def marshal(value: object) -> bytes:
    """Write a value in one line, as ``json.Marshal`` does.

    Args:
        value: dict, list, tuple, str, int, bool, None or `Verbatim` JSON, or a msgspec struct. An unpaired
            surrogate in a string becomes U+FFFD.
    """
    try:
        data = _encoder.encode(value)
    except UnicodeEncodeError:
        data = _encoder.encode(_replace_surrogates(value))
    return escape_html(data)


def marshal_indent(value: object) -> bytes:
    """Write a value as ``json.MarshalIndent`` does with an indent of two spaces; see `marshal`."""
    return msgspec.json.format(marshal(value), indent=2)


def sort_keys(values: Mapping[str, T]) -> dict[str, T]:
    """The entries in the order in which Go writes a map: by the bytes of the keys in UTF-8."""
    # Code points sort like their UTF-8 bytes.
    return dict(sorted(values.items()))


def _replace_surrogates(value: object) -> object:
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_replace_surrogates(key): _replace_surrogates(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_surrogates(item) for item in value]
    if isinstance(value, msgspec.Struct):
        return _replace_surrogates(msgspec.to_builtins(value))
    return value
