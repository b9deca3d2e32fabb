"""The strict grammar, and Go's error messages."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.image import ImageError
from exporter.image.go import json as gojson

VALUE = "looking for beginning of value"
KEY = "looking for beginning of object key string"
PAIR = "after object key:value pair"
ELEMENT = "after array element"

REFUSED = [
    (b"", "unexpected end of JSON input"),
    (b" \n", "unexpected end of JSON input"),
    (b"{", "unexpected end of JSON input"),
    (b'{"a"', "unexpected end of JSON input"),
    (b'{"a":', "unexpected end of JSON input"),
    (b'{"a":1', "unexpected end of JSON input"),
    (b'{"a":1,', "unexpected end of JSON input"),
    (b'"\\', "unexpected end of JSON input"),
    (b'"\\u00', "unexpected end of JSON input"),
    (b"-", "unexpected end of JSON input"),
    (b"1.", "unexpected end of JSON input"),
    (b"1e+", "unexpected end of JSON input"),
    (b"tru", "unexpected end of JSON input"),
    (b"[1,]", f"invalid character ']' {VALUE}"),
    (b"[}", f"invalid character '}}' {VALUE}"),
    (b"{]", f"invalid character ']' {KEY}"),
    (b"{,}", f"invalid character ',' {KEY}"),
    (b'{"a":1,}', f"invalid character '}}' {KEY}"),
    (b"{'a':1}", f"invalid character '\\'' {KEY}"),
    (b'{"a" 1}', "invalid character '1' after object key"),
    (b'{"a":1 "b"}', f"invalid character '\"' {PAIR}"),
    (b"[1 2]", f"invalid character '2' {ELEMENT}"),
    (b"[1}", f"invalid character '}}' {ELEMENT}"),
    (b"{} {}", "invalid character '{' after top-level value"),
    (b"\xef\xbb\xbf{}", f"invalid character '\\ufeff' {VALUE}"),
    (b"\xc2\xa0{}", f"invalid character '\\u00a0' {VALUE}"),
    (b"\x85", f"invalid character '\\x85' {VALUE}"),
    (b"\x00", f"invalid character '\\x00' {VALUE}"),
    (b"NaN", f"invalid character 'N' {VALUE}"),
    (b"+1", f"invalid character '+' {VALUE}"),
    (b".5", f"invalid character '.' {VALUE}"),
    (b"01", "invalid character '1' after top-level value"),
    (b"[-a]", "invalid character 'a' in numeric literal"),
    (b"[1.e]", "invalid character 'e' in numeric literal"),
    (b"[1e]", "invalid character ']' in numeric literal"),
    (b"[1.5.2]", f"invalid character '.' {ELEMENT}"),
    (b"nulx", "invalid character 'x' in literal null (expecting 'l')"),
    (b"[t}", "invalid character '}' in literal true (expecting 'r')"),
    (b'"\n"', "invalid character '\\n' in string"),
    (b'"a\x1fb"', "invalid character '\\x1f' in string"),
    (b'"\\x"', "invalid escape sequence `\\x` in string"),
    (b'"\\\n"', 'invalid escape sequence "\\\\\\n" in string'),
    (b'"\\`"', 'invalid escape sequence "\\\\`" in string'),
    (b'"\\u12g4"', "invalid escape sequence `\\u12g4` in string"),
    (b'"\\u1\xc3\xa9"', 'invalid escape sequence `\\u1é"` in string'),
    (b"[" * 10001, "exceeded max depth"),
    (b'{"a":[' * 5000 + b"{}", "exceeded max depth"),
]


@pytest.mark.parametrize(("data", "message"), REFUSED, ids=lambda value: repr(value)[:40])
def test_refused(data: bytes, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        gojson.parse(data)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "data",
    [
        b' \t\r\n[ 1 , -0 , 1.5e-3 , 1E+05 , true , false , null , "" , { } , [ ] ] \n',
        b'"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83d\\ude00\\ud800"',
        b'"\x7f\xff\xc0\x80\xe2\x80"',
        b"[" * 10000 + b"]" * 10000,
    ],
    ids=["everything", "escapes", "not UTF-8", "deep"],
)
def test_accepted(data: bytes) -> None:
    node = gojson.parse(data)
    assert (node.start, node.end) == (len(data) - len(data.lstrip()), len(data.rstrip()))


def test_nodes_tell_kinds_spans_and_keys() -> None:
    data = b'{"a": [1, "x"] , "\\u0061":{"b" :null}, "c":true}'
    root = gojson.parse(data)
    assert root.keys == ["a", "a", "c"]
    assert [item.kind for item in root.items] == ["array", "object", "bool"]
    assert [data[item.start : item.end] for item in root.items] == [b'[1, "x"]', b'{"b" :null}', b"true"]
    assert [item.kind for item in root.items[0].items] == ["number", "string"]
    assert root.items[1].items[0].kind == "null"


@pytest.mark.parametrize(
    ("quoted", "text"),
    [
        (b'"a\\u0041\\n\\/\\\\"', "aA\n/\\"),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"\\ud83d\\ud83d\\ude00"', "\ufffd😀"),
        (b'"\\ud800\\u0041"', "\ufffdA"),
        (b'"\\udc00"', "\ufffd"),
        (b'"\xe2\x80z"', "\ufffd\ufffdz"),
        (b'"\xf4\x90\x80\x80"', "\ufffd" * 4),
        (b'"\xed\xa0\x80"', "\ufffd" * 3),
        (b'"\xff\\u00e9\xc3"', "\ufffdé\ufffd"),
    ],
)
def test_unquote(quoted: bytes, text: str) -> None:
    assert gojson.unquote(quoted) == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


@given(json_values, st.sampled_from([None, 0, 2]), st.booleans())
def test_accepts_what_python_writes(value: object, indent: int | None, ascii_only: bool) -> None:
    data = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    node = gojson.parse(data)
    assert (node.start, node.end) == (0, len(data))


@given(json_values, st.data())
def test_refuses_what_python_refuses(value: object, data: st.DataObject) -> None:
    text = json.dumps(value)
    position = data.draw(st.integers(0, len(text)))
    mutated = (
        text[:position]
        + data.draw(st.text('{}[],:"\\u0e.-+1 tfn\x00\x1f', max_size=3))
        + text[position + 1 :]
    )
    try:
        json.loads(mutated, parse_constant=float.fromhex)
        valid = True
    except ValueError:
        valid = False
    try:
        gojson.parse(mutated.encode())
        taken = True
    except ImageError as error:
        taken = False
        assert str(error).startswith(("invalid character '", "invalid escape sequence ", "unexpected end"))
    assert taken == valid
