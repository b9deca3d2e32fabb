from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cli.csvvalue import split_fields
from exporter.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        ("type=oci", ["type=oci"]),
        ("type=oci,dest=a b.tar", ["type=oci", "dest=a b.tar"]),
        ('type=oci,"name=a,b"', ["type=oci", "name=a,b"]),
        ('"a""b",c', ['a"b', "c"]),
        ("a,", ["a", ""]),
        (",", ["", ""]),
        ('"",""', ["", ""]),
        ("a\n", ["a"]),
        ("a\r\n", ["a"]),
        ("a\r", ["a\r"]),
        ('"a\nb",c', ["a\nb", "c"]),
        ("annotation.é=ü,b", ["annotation.é=ü", "b"]),
    ],
)
def test_values_are_split_at_commas_outside_quotes(value: str, fields: list[str]) -> None:
    assert split_fields(value) == fields


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "the value is empty"),
        ("\n", "the value is empty"),
        ('a,b"c', 'parse error on line 1, column 4: bare " in non-quoted-field'),
        ('é,b"c', 'parse error on line 1, column 5: bare " in non-quoted-field'),
        ('a,"b', 'parse error on line 1, column 4: extraneous or missing " in quoted-field'),
        ('"a"b,c', 'parse error on line 1, column 3: extraneous or missing " in quoted-field'),
    ],
)
def test_errors_say_what_go_says(value: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        split_fields(value)
    assert caught.value.message == message


@given(st.lists(st.text(st.characters(exclude_characters="\r\n\0", codec="utf-8")), min_size=1, max_size=6))
def test_what_a_csv_writer_writes_is_read_back(fields: list[str]) -> None:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    if line.getvalue():
        assert split_fields(line.getvalue()) == fields


@given(st.text('a,"=é \r\n', max_size=12))
def test_every_value_is_split_or_refused(value: str) -> None:
    try:
        fields = split_fields(value)
    except InvalidArgumentError:
        return
    assert fields
