"""Decoding by Go's rules for keys, ``null``, repetition and types."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.image import ImageError, Time
from exporter.image.go import json as gojson
from exporter.image.go.json import Bool, Int64, Map, Pointer, Raw, Slice, String, Struct, Timestamp, Type

ITEM = Struct("x.Item", {"name": String(), "on": Bool(), "at": Timestamp()})
ROOT = Struct(
    "x.Root",
    {
        "os": String(),
        "work_dir": String("x.Path"),
        "size": Int64("time.Duration"),
        "items": Slice(ITEM),
        "labels": Map(String()),
        "ports": Map(Struct("struct {}", {})),
        "more": Pointer(ITEM),
        "raw": Raw(),
    },
)


def decoded(data: bytes) -> dict[str, Any]:
    return gojson.decode(data, ROOT, "Root")


def test_absent_fields_have_their_zero_values() -> None:
    assert decoded(b"{}") == {
        "os": "",
        "work_dir": "",
        "size": 0,
        "items": None,
        "labels": None,
        "ports": None,
        "more": None,
        "raw": b"",
    }


@pytest.mark.parametrize("key", ["os", "OS", "Os", "o\u017f", "\\u006f\\u0073", "o\\u017f"])
def test_keys_fold(key: str) -> None:
    assert decoded(b'{"%b":"linux"}' % key.encode())["os"] == "linux"


@pytest.mark.parametrize("key", ["o", "oss", "o s", "ös", "o\u017f\u0301"])
def test_other_keys_are_skipped(key: str) -> None:
    assert decoded(b'{"%b":5}' % key.encode())["os"] == ""


def test_kelvin_sign_and_delimiters() -> None:
    assert decoded('{"wor\u212a_dir":"a"}'.encode())["work_dir"] == "a"
    assert decoded(b'{"workdir":"a","work-dir":"b"}')["work_dir"] == ""


def test_the_last_spelling_wins() -> None:
    assert decoded(b'{"os":"a","OS":"b"}')["os"] == "b"
    assert decoded(b'{"OS":"a","os":"b","Os":"c"}')["os"] == "c"


def test_null_keeps_scalars_and_structs_and_clears_the_rest() -> None:
    data = (
        b'{"os":"a","size":5,"items":[{"name":"n","on":true}],"labels":{"a":"b"},"more":{"name":"x"},'
        b'"os":null,"size":null,"items":null,"labels":null,"more":null,"raw":null}'
    )
    value = decoded(data)
    assert (value["os"], value["size"]) == ("a", 5)
    assert (value["items"], value["labels"], value["more"]) == (None, None, None)
    assert value["raw"] == b"null"
    assert decoded(b'{"items":[{"name":"n","on":true,"at":"2024-01-02T03:04:05Z"},null]}')["items"] == [
        {"name": "n", "on": True, "at": Time.parse("2024-01-02T03:04:05Z")},
        {"name": "", "on": False, "at": None},
    ]
    assert decoded(b'{"items":[{"on":true,"on":null,"at":"2024-01-02T03:04:05Z","at":null}]}')["items"] == [
        {"name": "", "on": True, "at": None}
    ]
    assert gojson.decode(b"null", ROOT) == decoded(b"{}")


def test_repeated_arrays_merge_by_position() -> None:
    def names(*arrays: bytes) -> list[str] | None:
        items = decoded(b"{%b}" % b",".join(b'"items":' + array for array in arrays))["items"]
        return None if items is None else [item["name"] for item in items]

    two = b'[{"name":"a"},{"name":"b"}]'
    assert names(two, b"[{}]") == ["a"]
    # Elements beyond the end of a shorter array reappear.
    assert names(two, b"[{}]", b"[{},{},{}]") == ["a", "b", ""]
    assert names(two, b'[null,{"name":"c"}]') == ["a", "c"]
    assert names(two, b"[]", b"[{},{}]") == ["", ""]
    assert names(two, b"null", b"[{},{}]") == ["", ""]
    assert names(two, b"[]") == []


def test_repeated_objects_merge() -> None:
    value = decoded(
        b'{"labels":{"a":"1","b":"2","b":"3"},"labels":{"c":null},"more":{"name":"x"},"more":{"on":true}}'
    )
    assert value["labels"] == {"a": "1", "b": "3", "c": ""}
    assert value["more"] == {"name": "x", "on": True, "at": None}


WRONG = [
    (b"[]", "json: cannot unmarshal array into Go value of type x.Root"),
    (b'"x"', "json: cannot unmarshal string into Go value of type x.Root"),
    (b'{"OS":5}', "json: cannot unmarshal number into Go struct field Root.OS of type string"),
    (
        '{"o\u017f":{}}'.encode(),
        "json: cannot unmarshal object into Go struct field Root.o\u017f of type string",
    ),
    (b'{"work_dir":[]}', "json: cannot unmarshal array into Go struct field Root.work_dir of type x.Path"),
    (b'{"items":{}}', "json: cannot unmarshal object into Go struct field Root.items of type []x.Item"),
    (b'{"items":[{},1]}', "json: cannot unmarshal number into Root.items.1 of type x.Item"),
    (
        b'{"items":[{"On":"x"}]}',
        "json: cannot unmarshal string into Go struct field Root.items.0.On of type bool",
    ),
    (
        b'{"items":[{"at":1}]}',
        "json: cannot unmarshal number into Go struct field Root.items.0.at of type time.Time",
    ),
    (
        b'{"labels":[]}',
        "json: cannot unmarshal array into Go struct field Root.labels of type map[string]string",
    ),
    (
        b'{"labels":{"a/b~c":true}}',
        "json: cannot unmarshal bool into Go struct field Root.labels.a~1b~0c of type string",
    ),
    (b'{"labels":{"a.5":1}}', "json: cannot unmarshal number into Root.labels.a.5 of type string"),
    (b'{"labels":{"":1}}', "json: cannot unmarshal number into Go struct field Root.labels. of type string"),
    (b'{"ports":{"80":1}}', "json: cannot unmarshal number into Root.ports.80 of type struct {}"),
    (b'{"more":"x"}', "json: cannot unmarshal string into Go struct field Root.more of type x.Item"),
    (
        b'{"size":1e3}',
        "json: cannot unmarshal number 1e3 into Go struct field Root.size of type time.Duration",
    ),
    (b'{"size":"30s"}', "json: cannot unmarshal string into Go struct field Root.size of type time.Duration"),
    (
        b'{"size":9223372036854775808}',
        "json: cannot unmarshal number 9223372036854775808 "
        "into Go struct field Root.size of type time.Duration",
    ),
    # The first wrong value is reported, for any kind of error.
    (
        b'{"items":[{"at":"x"}],"os":5}',
        'parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006"',
    ),
    (
        b'{"os":5,"items":[{"at":"x"}]}',
        "json: cannot unmarshal number into Go struct field Root.os of type string",
    ),
    # Syntax comes before everything else.
    (b'{"os":5,}', "invalid character '}' looking for beginning of object key string"),
]


@pytest.mark.parametrize(("data", "message"), WRONG, ids=lambda value: repr(value)[:50])
def test_wrong_types(data: bytes, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        decoded(data)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("into", "message"),
    [
        (Slice(String()), "json: cannot unmarshal number into Go value of type []string"),
        (Map(Raw()), "json: cannot unmarshal number into Go value of type map[string]json.RawMessage"),
        (Bool(), "json: cannot unmarshal number into Go value of type bool"),
    ],
)
def test_wrong_type_of_the_whole(into: Type[Any], message: str) -> None:
    with pytest.raises(ImageError) as caught:
        gojson.decode(b"1", into)
    assert str(caught.value) == message


@pytest.mark.parametrize("number", [0, -1, 2**63 - 1, -(2**63)])
def test_integers(number: int) -> None:
    assert decoded(b'{"size":%d}' % number)["size"] == number
    assert decoded(b'{"size":-0}')["size"] == 0


def test_raw_values_are_kept_as_they_are() -> None:
    assert decoded(b'{"raw": [ 1.0,"\\u0041" ] }')["raw"] == b'[ 1.0,"\\u0041" ]'
