from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.exporters.attestations.go_any import normalize
from exporter.image import ImageError

# What Go 1.27 writes for these numbers after reading them into an interface{}.
NUMBERS = {
    "1": "1",
    "1.0": "1",
    "-0": "-0",
    "0.0": "0",
    "1E+05": "100000",
    "123456789012345678901234567890": "1.2345678901234568e+29",
    "1e21": "1e+21",
    "1e20": "100000000000000000000",
    "999999999999999999999": "1e+21",
    "0.000001": "0.000001",
    "0.0000001": "1e-7",
    "1.5e-7": "1.5e-7",
    "1.25e-10": "1.25e-10",
    "5e-324": "5e-324",
    "1.7976931348623157e308": "1.7976931348623157e+308",
    "-12.50": "-12.5",
    "1234567.125": "1234567.125",
    "123e-5": "0.00123",
}


@pytest.mark.parametrize(("literal", "written"), NUMBERS.items())
def test_numbers(literal: str, written: str) -> None:
    assert normalize(literal.encode()) == written.encode()


def test_a_number_out_of_the_range_of_floats() -> None:
    with pytest.raises(ImageError, match="json: cannot unmarshal number 1e999 into Go value of type float64"):
        normalize(b'{"a":[1e999]}')


@pytest.mark.parametrize(
    ("data", "written"),
    [
        (b'{"b":1,"a":2,"b":3}', b'{"a":2,"b":3}'),
        (b"[ true, false , null ]", b"[true,false,null]"),
        (b'"\\u00e9<\\/\\ud800\xff"', '"é\\u003c/\ufffd\ufffd"'.encode()),
        (b'{"\\u0061":"\\n"}', b'{"a":"\\n"}'),
    ],
)
def test_values(data: bytes, written: bytes) -> None:
    assert normalize(data) == written


def test_deep_nesting_is_an_error() -> None:
    with pytest.raises(ImageError, match="nested too deeply"):
        normalize(b"[" * 9000 + b"]" * 9000)


json_values = st.recursive(
    st.none() | st.booleans() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@given(json_values)
def test_the_result_is_equivalent_and_stable(value: object) -> None:
    once = normalize(json.dumps(value).encode())
    assert json.loads(once, parse_int=float) == value
    assert normalize(once) == once
