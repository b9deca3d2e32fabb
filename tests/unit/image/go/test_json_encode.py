"""Writing JSON in Go's bytes."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.image.go import json as gojson
from tests.unit.image.go.test_json_syntax import json_values


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ('a"b\\c/d', rb'"a\"b\\c/d"'),
        ("\b\f\n\r\t", rb'"\b\f\n\r\t"'),
        ("\x00\x0b\x1f", rb'"\u0000\u000b\u001f"'),
        ("<a&b>", rb'"\u003ca\u0026b\u003e"'),
        ("\u2028\u2029\u2027", b'"\\u2028\\u2029\xe2\x80\xa7"'),
        ("\x7fé😀\ufffd", '"\x7fé😀\ufffd"'.encode()),
        ("a\ud800b\udfff", '"a\ufffdb\ufffd"'.encode()),
    ],
)
def test_strings(text: str, quoted: bytes) -> None:
    assert gojson.marshal(text) == quoted
    assert gojson.marshal({text: [text]}) == b"{%b:[%b]}" % (quoted, quoted)


def test_structs_may_hold_half_surrogate_pairs() -> None:
    class Item(msgspec.Struct, omit_defaults=True):
        name: str = ""
        note: str = ""

    assert (
        gojson.marshal({"a": Item("\udc00"), "b": gojson.Verbatim(b"[1]")})
        == '{"a":{"name":"\ufffd"},"b":[1]}'.encode()
    )


def test_values_keep_their_order() -> None:
    value: dict[str, object] = {
        "b": None,
        "a": [True, False, 0, -5, 2**70],
        "": {},
        "c": [],
        "d": gojson.Verbatim(b"1.0"),
    }
    assert (
        gojson.marshal(value)
        == b'{"b":null,"a":[true,false,0,-5,1180591620717411303424],"":{},"c":[],"d":1.0}'
    )


def test_indented() -> None:
    value: dict[str, object] = {"a": [], "b": {}, "c": [1, {"d": "x, y: [z]"}], "e": None, "f<": "\u2028"}
    assert gojson.marshal_indent(value).decode() == (
        '{\n  "a": [],\n  "b": {},\n  "c": [\n    1,\n    {\n      "d": "x, y: [z]"\n    }\n  ],\n'
        '  "e": null,\n  "f\\u003c": "\\u2028"\n}'
    )


def test_keys_are_sorted_by_bytes() -> None:
    keys = ["\U00010000", "\uffff", "b", "a", "Z", "", "é", "a\x00"]
    assert list(gojson.sort_keys(dict.fromkeys(keys))) == sorted(keys, key=lambda key: key.encode())


COMPACTED = [
    (b' { "a" : [ 1.0 , 1E+05 , -0 ] , "b c" : "d  e" } ', b'{"a":[1.0,1E+05,-0],"b c":"d  e"}'),
    (b'["\\u003C", "\\/", "\\u0041", "\\ud800"]', b'["\\u003C","\\/","\\u0041","\\ud800"]'),
    (b'{"a":1, "a":2}', b'{"a":1,"a":2}'),
    (b'["<>&", "\xe2\x80\xa8\xe2\x80\xa9"]', b'["\\u003c\\u003e\\u0026","\\u2028\\u2029"]'),
    (b'["\xff\xe2\x80\xa8\xe2\x80", 1]', b'["\xff\\u2028\xe2\x80",1]'),
    (b'[ "\\" , \\\\" , "x" ]', b'["\\" , \\\\","x"]'),
    (b"[ " * 2000 + b"]" * 2000, b"[" * 2000 + b"]" * 2000),
]


@pytest.mark.parametrize(("data", "compacted"), COMPACTED, ids=lambda value: repr(value)[:40])
def test_compact(data: bytes, compacted: bytes) -> None:
    assert gojson.compact(data) == compacted
    assert gojson.compact(compacted) == compacted


@given(json_values)
def test_reads_back(value: object) -> None:
    assert json.loads(gojson.marshal(value)) == value
    assert json.loads(gojson.marshal_indent(value)) == value


@given(json_values, st.sampled_from([1, 4, "\t"]))
def test_compacting_removes_only_whitespace(value: object, indent: int | str) -> None:
    assert (
        gojson.strip_blanks(json.dumps(value, indent=indent).encode())
        == json.dumps(value, separators=(",", ":")).encode()
    )
