"""Go's strict JSON grammar (``encoding/json`` 1.27): parses a text into nodes, or reports Go's syntax error.

The parser does not recurse, so it handles every depth that Go accepts. Nodes point into the text; values are
not decoded yet. As in Go, strings may contain bytes that are not UTF-8.
"""

from __future__ import annotations

import re
from typing import NoReturn

from exporter.errors import ImageError
from exporter.image.go import text as gotext

MAX_DEPTH = 10000
"""How deeply Go allows arrays and objects to be nested."""

_BLANKS = re.compile(rb"[ \t\r\n]*+")
_STRING = rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"'
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++|(?!\.))(?:[eE][+-]?[0-9]++|(?![eE]))"
_SCALAR = re.compile(
    rb"(?P<string>%b)|(?P<number>%b)|(?P<bool>true|false)|(?P<null>null)" % (_STRING, _NUMBER)
)
_KEY = re.compile(rb"(%b)[ \t\r\n]*+:[ \t\r\n]*+" % _STRING)
_QUOTED = re.compile(_STRING)

_HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")
_DIGITS = frozenset(b"0123456789")
_LITERALS = {b"n": b"null", b"t": b"true", b"f": b"false"}

_OPENERS = {b"{": "object", b"[": "array"}
_CLOSERS = {"object": b"}", "array": b"]"}
_AFTER_ELEMENT = {"object": "after object key:value pair", "array": "after array element"}


class Node:
    """A value in a JSON text.

    Attributes:
        kind: ``null``, ``bool``, ``number``, ``string``, ``array`` or ``object``, the words of Go's type
            errors.
        start: Index of its first byte in the text.
        end: Index after its last byte.
        keys: The decoded keys of an object, in document order; empty for other kinds.
        items: The elements of an array, or the values of an object, one per key; empty for other kinds.
    """

    __slots__ = ("end", "items", "keys", "kind", "start")

    def __init__(self, kind: str, start: int, end: int = -1) -> None:
        self.kind = kind
        self.start = start
        self.end = end
        self.keys: list[str] = []
        self.items: list[Node] = []


def parse(data: bytes) -> Node:
    """Read a whole JSON text.

    Raises:
        ImageError: it is not valid JSON; with Go's text, such as ``invalid character ']' looking for
            beginning of value``.
    """
    parents: list[Node] = []
    pos = _skip_blanks(data, 0)
    while True:
        # A value begins here.
        kind = _OPENERS.get(data[pos : pos + 1])
        if kind is None:
            node = _parse_scalar(data, pos)
        else:
            if len(parents) == MAX_DEPTH:
                raise ImageError("exceeded max depth")
            node = Node(kind, pos)
        if parents:
            parents[-1].items.append(node)
        if kind is not None:
            pos = _skip_blanks(data, pos + 1)
            if data[pos : pos + 1] != _CLOSERS[kind]:
                parents.append(node)
                if kind == "object":
                    pos = _parse_key(data, pos, node)
                continue
            node.end = pos + 1
        # A value ends here, and perhaps some of those around it.
        pos = _skip_blanks(data, node.end)
        while parents and data[pos : pos + 1] == _CLOSERS[parents[-1].kind]:
            node = parents.pop()
            node.end = pos + 1
            pos = _skip_blanks(data, node.end)
        if not parents:
            if pos < len(data):
                _fail_character(data, pos, "after top-level value")
            return node
        parent = parents[-1]
        if data[pos : pos + 1] != b",":
            _fail_character(data, pos, _AFTER_ELEMENT[parent.kind])
        pos = _skip_blanks(data, pos + 1)
        if parent.kind == "object":
            pos = _parse_key(data, pos, parent)


def _skip_blanks(data: bytes, pos: int) -> int:
    match = _BLANKS.match(data, pos)
    return match.end() if match else pos


def _parse_scalar(data: bytes, pos: int) -> Node:
    match = _SCALAR.match(data, pos)
    if match is None:
        _fail_value(data, pos)
    return Node(match.lastgroup or "", pos, match.end())


def _parse_key(data: bytes, pos: int, node: Node) -> int:
    """Read a key and its colon; return where the value begins."""
    match = _KEY.match(data, pos)
    if match is None:
        _fail_key(data, pos)
    node.keys.append(unquote(match[1]))
    return match.end()


# --- strings ---

_ESCAPES = re.compile(
    r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))"
)
_SHORT_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def unquote(quoted: bytes) -> str:
    """The text of a valid JSON string; `quoted` includes the quotes.

    Each byte that is not UTF-8, and each unpaired escaped surrogate, becomes one U+FFFD.
    """
    try:
        text = quoted[1:-1].decode()
    except UnicodeDecodeError:
        text = gotext.decode(quoted[1:-1])
    return _ESCAPES.sub(_unescape, text) if "\\" in text else text


def _unescape(match: re.Match[str]) -> str:
    high, low, code, short = match.groups()
    if high:
        return chr(0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF))
    if code:
        character = chr(int(code, 16))
        return "\ufffd" if "\ud800" <= character <= "\udfff" else character
    return _SHORT_ESCAPES.get(short, short)


# --- error messages ---
# The patterns above only tell that something is wrong after a position. These functions scan on from there
# byte by byte, as Go's scanner does, to find the byte that Go reports.


def _fail_value(data: bytes, pos: int) -> NoReturn:
    first = data[pos : pos + 1]
    if first == b'"':
        _fail_string(data, pos)
    if first == b"-" or first.isdigit():
        _fail_number(data, pos)
    if first in _LITERALS:
        _fail_literal(data, pos, _LITERALS[first])
    _fail_character(data, pos, "looking for beginning of value")


def _fail_key(data: bytes, pos: int) -> NoReturn:
    if data[pos : pos + 1] != b'"':
        _fail_character(data, pos, "looking for beginning of object key string")
    match = _QUOTED.match(data, pos)
    if match is None:
        _fail_string(data, pos)
    _fail_character(data, _skip_blanks(data, match.end()), "after object key")


def _fail_literal(data: bytes, pos: int, literal: bytes) -> NoReturn:
    matched = 1
    while data.startswith(literal[: matched + 1], pos):
        matched += 1
    _fail_character(
        data, pos + matched, f"in literal {literal.decode()} (expecting '{chr(literal[matched])}')"
    )


def _fail_number(data: bytes, pos: int) -> NoReturn:
    where = "in numeric literal"
    pos += data[pos : pos + 1] == b"-"
    if not data[pos : pos + 1].isdigit():
        _fail_character(data, pos, where)
    pos = pos + 1 if data[pos : pos + 1] == b"0" else _skip_digits(data, pos)
    if data[pos : pos + 1] == b".":
        pos += 1
        if not data[pos : pos + 1].isdigit():
            _fail_character(data, pos, where)
        pos = _skip_digits(data, pos)
    # The only other possible error is an exponent without digits.
    pos += 1
    pos += data[pos : pos + 1] in {b"+", b"-"}
    _fail_character(data, pos, where)


def _skip_digits(data: bytes, pos: int) -> int:
    while pos < len(data) and data[pos] in _DIGITS:
        pos += 1
    return pos


def _fail_string(data: bytes, pos: int) -> NoReturn:
    pos += 1
    while pos < len(data):
        byte = data[pos]
        if byte < 0x20:
            _fail_character(data, pos, "in string")
        if byte != ord("\\"):
            pos += 1
            continue
        escape = data[pos : pos + 6]
        if len(escape) < 2:
            break
        if escape[1] == ord("u"):
            if not all(digit in _HEX_DIGITS for digit in escape[2:]):
                _fail_escape(escape)
            if len(escape) < 6:
                break
            pos += 6
        elif escape[1] in b'"\\/bfnrt':
            pos += 2
        else:
            _fail_escape(escape[:2])
    raise ImageError("unexpected end of JSON input")


def _fail_escape(escape: bytes) -> NoReturn:
    text = escape.decode("utf-8", "surrogateescape")
    raw = all(
        character.isprintable() and character not in " `\ufffd" and not "\ud800" <= character <= "\udfff"
        for character in text
    )
    raise ImageError(f"invalid escape sequence {f'`{text}`' if raw else gotext.quote(text)} in string")


def _fail_character(data: bytes, pos: int, where: str) -> NoReturn:
    if pos >= len(data):
        raise ImageError("unexpected end of JSON input")
    # Go reports a character, or the byte if it is not UTF-8.
    character = data[pos : pos + 4].decode("utf-8", "surrogateescape")[0]
    shown = {"'": "\\'", '"': '"'}.get(character) or gotext.quote(character)[1:-1]
    raise ImageError(f"invalid character '{shown}' {where}")
