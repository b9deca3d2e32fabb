"""Times as Go reads, compares and writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.image import ImageError, Time
from exporter.image.go.time import VALID_UTC, trim_fraction

YEAR_0 = -62167219200
YEAR_10000 = 253402300800


def parse_error(text: str) -> str:
    with pytest.raises(ImageError) as caught:
        Time.parse(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "unix", "nanosecond", "offset", "written"),
    [
        ("1970-01-01T00:00:00Z", 0, 0, 0, "1970-01-01T00:00:00Z"),
        ("2024-02-29T12:34:56.123456789Z", 1709210096, 123456789, 0, "2024-02-29T12:34:56.123456789Z"),
        ("2024-02-29T12:34:56.120000Z", 1709210096, 120000000, 0, "2024-02-29T12:34:56.12Z"),
        ("2024-02-29T12:34:50.000Z", 1709210090, 0, 0, "2024-02-29T12:34:50Z"),
        ("2024-02-29T12:34:56,5Z", 1709210096, 500000000, 0, "2024-02-29T12:34:56.5Z"),
        ("2024-02-29T12:34:56.9999999999Z", 1709210096, 999999999, 0, "2024-02-29T12:34:56.999999999Z"),
        ("2024-02-29T7:34:56Z", 1709192096, 0, 0, "2024-02-29T07:34:56Z"),
        ("2024-02-29T12:34:56+05:30", 1709190296, 0, 19800, "2024-02-29T12:34:56+05:30"),
        ("2024-02-29T12:34:56-00:30", 1709211896, 0, -1800, "2024-02-29T12:34:56-00:30"),
        ("2024-02-29T12:34:56-00:00", 1709210096, 0, 0, "2024-02-29T12:34:56Z"),
        ("2024-02-29T12:34:56+00:60", 1709206496, 0, 3600, "2024-02-29T12:34:56+01:00"),
        ("0000-01-01T00:00:00Z", YEAR_0, 0, 0, "0000-01-01T00:00:00Z"),
        ("0000-02-29T00:00:00+01:00", YEAR_0 + 59 * 86400 - 3600, 0, 3600, "0000-02-29T00:00:00+01:00"),
        ("0000-01-01T00:00:00+01:00", YEAR_0 - 3600, 0, 3600, "0000-01-01T00:00:00+01:00"),
        ("9999-12-31T23:59:59-01:00", YEAR_10000 - 1 + 3600, 0, -3600, "9999-12-31T23:59:59-01:00"),
    ],
)
def test_parse_and_marshal(text: str, unix: int, nanosecond: int, offset: int, written: str) -> None:
    time = Time.parse(text)
    assert (time.unix, time.nanosecond, time.offset_seconds) == (unix, nanosecond, offset)
    assert time.has_location == (not text.endswith("Z"))
    assert time.marshal() == written == str(time)


LAYOUT = '"2006-01-02T15:04:05Z07:00"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f'"" as {LAYOUT}: cannot parse "" as "2006"'),
        ("now", f'"now" as {LAYOUT}: cannot parse "now" as "2006"'),
        (
            "20a4-01-01T00:00:00Z",
            f'"20a4-01-01T00:00:00Z" as {LAYOUT}: cannot parse "20a4-01-01T00:00:00Z" as "2006"',
        ),
        (
            "2024/01-01T00:00:00Z",
            f'"2024/01-01T00:00:00Z" as {LAYOUT}: cannot parse "/01-01T00:00:00Z" as "-"',
        ),
        ("2024-1-01T00:00:00Z", f'"2024-1-01T00:00:00Z" as {LAYOUT}: cannot parse "1-01T00:00:00Z" as "01"'),
        ("2024-001-02T00:00:00Z", '"2024-001-02T00:00:00Z": month out of range'),
        ("2024-13-01T00:00:00Z", '"2024-13-01T00:00:00Z": month out of range'),
        ("2023-02-29T00:00:00Z", '"2023-02-29T00:00:00Z": day out of range'),
        ("2024-01-00T00:00:00Z", '"2024-01-00T00:00:00Z": day out of range'),
        ("2024-01-01t00:00:00Z", f'"2024-01-01t00:00:00Z" as {LAYOUT}: cannot parse "t00:00:00Z" as "T"'),
        ("2024-01-01T24:00:00Z", '"2024-01-01T24:00:00Z": hour out of range'),
        ("2024-01-01T00:60:00Z", '"2024-01-01T00:60:00Z": minute out of range'),
        ("2024-01-01T00:0:00Z", f'"2024-01-01T00:0:00Z" as {LAYOUT}: cannot parse "0:00Z" as "04"'),
        ("2024-01-01T00:00:60Z", '"2024-01-01T00:00:60Z": second out of range'),
        ("2024-01-01T00:00Z", f'"2024-01-01T00:00Z" as {LAYOUT}: cannot parse "Z" as ":"'),
        ("2024-01-01T00:00:00.Z", f'"2024-01-01T00:00:00.Z" as {LAYOUT}: cannot parse ".Z" as "Z07:00"'),
        ("2024-01-01T00:00:00z", f'"2024-01-01T00:00:00z" as {LAYOUT}: cannot parse "z" as "Z07:00"'),
        ("2024-01-01T00:00:00+25:00", '"2024-01-01T00:00:00+25:00": time zone offset hour out of range'),
        ("2024-01-01T00:00:00+99:99", '"2024-01-01T00:00:00+99:99": time zone offset minute out of range'),
        ("2024-01-01T00:00:00+99:x9", '"2024-01-01T00:00:00+99:x9": time zone offset hour out of range'),
        (
            "2024-01-01T00:00:00*01:00",
            f'"2024-01-01T00:00:00*01:00" as {LAYOUT}: cannot parse "*01:00" as "Z07:00"',
        ),
        (
            "2024-01-01T00:00:00+0100",
            f'"2024-01-01T00:00:00+0100" as {LAYOUT}: cannot parse "+0100" as "Z07:00"',
        ),
        ("2024-01-01T00:00:00Z ", '"2024-01-01T00:00:00Z ": extra text: " "'),
        ("2024-02-30T00:00:00Zx", '"2024-02-30T00:00:00Zx": extra text: "x"'),
        (
            '2024-01-01T00:00:00Z"\\é\x00\x7f',
            '"2024-01-01T00:00:00Z\\"\\\\\\xc3\\xa9\\x00\x7f": extra text: "\\"\\\\\\xc3\\xa9\\x00\x7f"',
        ),
    ],
)
def test_errors(text: str, message: str) -> None:
    assert parse_error(text) == f"parsing time {message}"


@pytest.mark.parametrize(
    ("time", "message"),
    [
        (Time.parse("2024-01-01T00:00:00+24:00"), "timezone hour outside of range [0,23]"),
        (Time.parse("2024-01-01T00:00:00-23:60"), "timezone hour outside of range [0,23]"),
        (Time.from_unix(YEAR_0 - 1), "year outside of range [0,9999]"),
        (Time.from_unix(YEAR_10000), "year outside of range [0,9999]"),
        (Time.from_unix(YEAR_10000 - 1, offset_seconds=3600), "year outside of range [0,9999]"),
        (Time.from_unix(2**62, offset_seconds=86400), "year outside of range [0,9999]"),
    ],
)
def test_unwritable(time: Time, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        time.marshal()
    assert str(caught.value) == message
    assert str(time)


def test_from_unix() -> None:
    time = Time.from_unix(1, -1)
    assert (time.unix, time.nanosecond, time.unix_nano) == (0, 999_999_999, 999_999_999)
    assert Time.from_unix_nano(-1) == Time.from_unix(0, -1) == Time.from_unix(-1, 999_999_999)
    assert Time.from_unix_nano(1_500_000_000_123_456_789).marshal() == "2017-07-14T02:40:00.123456789Z"
    assert Time.from_unix(0, offset_seconds=-3600).marshal() == "1969-12-31T23:00:00-01:00"


def test_times_compare_as_instants() -> None:
    utc, east = Time.parse("2024-01-01T00:00:00Z"), Time.parse("2024-01-01T01:00:00+01:00")
    assert utc == east
    assert len({utc, east}) == 1
    assert Time.from_unix(0, 1) > Time.from_unix(0) >= Time.from_unix(-1, 999_999_999)
    assert utc != "2024-01-01T00:00:00Z"
    with pytest.raises(TypeError):
        assert utc < 5  # type: ignore[operator]


def test_identical_times_are_in_the_same_kind_of_zone() -> None:
    texts = [
        "00:00:05Z",
        "00:00:05.000Z",
        "00:00:05+00:00",
        "00:00:05-00:00",
        "01:00:05+01:00",
        "01:00:05+00:60",
    ]
    zones = {"Z": 0, "+00:00": 1, "-00:00": 1, "+01:00": 2, "+00:60": 2}
    for one in texts:
        for other in texts:
            same = (
                zones[one[-1] if one[-1] == "Z" else one[-6:]]
                == zones[other[-1] if other[-1] == "Z" else other[-6:]]
            )
            assert Time.parse(f"2024-01-01T{one}").identical(Time.parse(f"2024-01-01T{other}")) == same


@given(
    st.datetimes(
        timezones=st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(
            lambda offset: timezone(timedelta(minutes=offset // timedelta(minutes=1)))
        )
    ),
    st.integers(0, 999),
)
def test_agrees_with_datetime(moment: datetime, nanoseconds: int) -> None:
    offset = moment.utcoffset() or timedelta()
    since_epoch = moment - datetime(1970, 1, 1, tzinfo=UTC)
    time = Time.from_unix(
        since_epoch // timedelta(seconds=1),
        moment.microsecond * 1000 + nanoseconds,
        offset_seconds=offset // timedelta(seconds=1),
    )
    text = time.marshal()
    assert datetime.fromisoformat(text) == moment
    assert Time.parse(text).unix_nano == time.unix_nano
    assert Time.parse(text).offset_seconds == time.offset_seconds


time_texts = st.from_regex(
    re.compile(
        r"\d{4}-[01]\d-[0-3]\d[Tt ][0-2]?\d:[0-6]\d:[0-6]\d([.,]\d{0,11})?(Z|z|[+-][0-2]\d:?[0-6]\d)?",
        re.ASCII,
    ),
    fullmatch=True,
)


@given(time_texts | st.text(max_size=30))
def test_every_text_is_a_time_or_explained(text: str) -> None:
    try:
        time = Time.parse(text)
    except ImageError as error:
        assert str(error).startswith('parsing time "')
        return
    try:
        written = time.marshal()
    except ImageError:
        assert abs(time.offset_seconds) >= 86400
        return
    again = Time.parse(written)
    assert (again.unix_nano, again.offset_seconds) == (time.unix_nano, time.offset_seconds)
    # The pattern for texts that need no parsing, only trimming, tells the truth.
    if re.fullmatch(VALID_UTC, text, re.ASCII):
        assert trim_fraction(text) == written


@given(st.from_regex(re.compile(rf"(?:{VALID_UTC})", re.ASCII), fullmatch=True))
def test_the_pattern_for_valid_texts_matches_nothing_else(text: str) -> None:
    assert Time.parse(text).marshal() == str(Time.parse(text)) == trim_fraction(text)
