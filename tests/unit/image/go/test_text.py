from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ImageError
from exporter.image.go import text as gotext


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("", '""'),
        ('a"b\\c', r'"a\"b\\c"'),
        ("\a\b\f\n\r\t\v", r'"\a\b\f\n\r\t\v"'),
        ("\x00\x1b\x7f", r'"\x00\x1b\x7f"'),
        ("é 日 😀 '", '"é 日 😀 \'"'),
        ("\x80\xa0\xad\u200b\u2028\ufeff", r'"\u0080\u00a0\u00ad\u200b\u2028\ufeff"'),
        ("\ue000\U000e0001", r'"\ue000\U000e0001"'),
        ("\ufffd", '"\ufffd"'),
        (b"a\xff\xe2\x80z", r'"a\xff\xe2\x80z"'),
        ("\udcff", r'"\xff"'),
        ("\ud800", r'"\xed\xa0\x80"'),
    ],
)
def test_quote_shows_text_as_go_does(value: str | bytes, quoted: str) -> None:
    assert gotext.quote(value) == quoted


@pytest.mark.parametrize(
    ("text", "lowered"),
    [
        ("ABC", "abc"),
        ("ΑΣ", "ας".replace("ς", "σ")),
        ("İ", "i"),
        ("\u212a", "k"),
        ("É\udcff", "é\ufffd"),
    ],
)
def test_lower_goes_character_by_character(text: str, lowered: str) -> None:
    assert gotext.lower(text) == lowered


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain", "plain"),
        ("é".encode(), "é"),
        (b"\xe2\x80z", "\ufffd\ufffdz"),
        (b"\xf4\x90\x80\x80", "\ufffd" * 4),
        (b"\xed\xa0\x80", "\ufffd" * 3),
    ],
)
def test_decode_replaces_each_bad_byte(data: bytes, text: str) -> None:
    assert gotext.decode(data) == text


@pytest.mark.parametrize("word", ["1", "t", "T", "TRUE", "true", "True"])
def test_words_for_true(word: str) -> None:
    assert gotext.parse_bool(word) is True


@pytest.mark.parametrize("word", ["0", "f", "F", "FALSE", "false", "False"])
def test_words_for_false(word: str) -> None:
    assert gotext.parse_bool(word) is False


@pytest.mark.parametrize("word", ["", "yes", "tRUE", " true", "true\n", "01"])
def test_other_words_are_not_booleans(word: str) -> None:
    with pytest.raises(ImageError) as error:
        gotext.parse_bool(word)
    assert str(error.value) == f"strconv.ParseBool: parsing {gotext.quote(word)}: invalid syntax"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("-0", 0),
        ("+5", 5),
        ("-12", -12),
        ("007", 7),
        ("0" * 10_000 + "8", 8),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
    ],
)
def test_parse_int(text: str, number: int) -> None:
    assert gotext.parse_int(text) == number


@pytest.mark.parametrize(
    "text", ["", "+", "-", "+-1", "1_0", " 1", "1 ", "0x1", "1e3", "٣", "18446744073709551615x"]
)
def test_texts_that_are_not_integers(text: str) -> None:
    with pytest.raises(ImageError, match="invalid syntax"):
        gotext.parse_int(text)


@pytest.mark.parametrize(
    "text",
    [
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "99999999999999999999x",  # too long before it is wrong
        "1" * 10_000,
    ],
)
def test_integers_out_of_range(text: str) -> None:
    with pytest.raises(ImageError, match="value out of range"):
        gotext.parse_int(text)


@given(st.integers())
def test_parse_int_agrees_with_python(number: int) -> None:
    try:
        assert gotext.parse_int(str(number)) == number
    except ImageError:
        assert not -(2**63) <= number < 2**63


@given(st.text(st.characters(codec=None)))
def test_any_text_is_handled(text: str) -> None:
    assert gotext.quote(text)[0] == '"'
    gotext.lower(text)
    assert gotext.decode(gotext.encode(text)).isascii() or not text.isascii()
    for parse in (gotext.parse_bool, gotext.parse_int):
        try:
            parse(text)
        except ImageError as error:
            assert gotext.quote(text) in str(error)


@pytest.mark.parametrize("data", [b"plain", "é".encode(), b"\xff\xed\xa0\x80"])
def test_encode_undoes_surrogateescape(data: bytes) -> None:
    assert gotext.encode(data.decode("utf-8", "surrogateescape")) == data


@given(st.binary())
def test_any_bytes_are_handled(data: bytes) -> None:
    assert gotext.quote(data)[-1] == '"'
    gotext.decode(data).encode()
