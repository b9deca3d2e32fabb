"""Times as Go reads and writes them in JSON: RFC 3339 with nanoseconds and an offset (``time.Time``).

Python's `datetime` stops at microseconds, is limited to the years 1 to 9999, and accepts other texts than Go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from functools import total_ordering

from exporter.errors import ImageError

VALID_UTC = (
    r"(?:[0-9]{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    r"|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?Z"
)
"""Matches times in UTC that Go writes as it reads them, apart from trailing zeros of the fraction."""

_VALID_UTC = re.compile(VALID_UTC, re.ASCII)
_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]+))?(?:Z|([+-])([0-9]{2}):([0-9]{2}))",
    re.ASCII,
)

_SECONDS_PER_DAY = 86400
_NANOSECONDS = 1_000_000_000
_DAYS_PER_CYCLE = 146097  # 400 Gregorian years
_UNIX_EPOCH_DAY = date(1970, 1, 1).toordinal() - 1  # counted from 0001-01-01


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Time:
    """An instant with nanosecond precision, and the UTC offset of the clock that it was read from.

    Times compare and hash as instants: ``12:00Z`` equals ``13:00+01:00``. `identical` also compares zones.

    Attributes:
        unix: Whole seconds since 1970-01-01T00:00:00Z, rounded down.
        nanosecond: Within the second, 0 to 999,999,999.
        offset_seconds: How far the clock is ahead of UTC.
        has_location: Whether the zone is not ``Z``. Go distinguishes ``Z`` and ``+00:00`` when it compares
            structs, although it writes both as ``Z``.
    """

    unix: int
    nanosecond: int = 0
    offset_seconds: int = 0
    has_location: bool = False
    _text: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> Time:
        """Parse a time, without its quotes, as Go's ``Time.UnmarshalJSON`` does.

        The format is RFC 3339, but Go also accepts a one-digit hour, a comma before the fraction, more than
        nine digits of fraction (cut off) and offsets up to ``24:60``.

        Raises:
            ImageError: it is not a time; with Go's text, such as ``parsing time "…": month out of range``.
        """
        match = _RFC3339.fullmatch(text)
        if match is None:
            raise _explain(text)
        year, month, day, hour, minute, second = map(int, match.groups()[:6])
        fraction, sign, offset_hour, offset_minute = match.groups()[6:]
        offset = (int(offset_hour) * 60 + int(offset_minute)) * 60 if sign else 0
        if (
            hour > 23
            or minute > 59
            or second > 59
            or (sign and (int(offset_hour) > 24 or int(offset_minute) > 60))
        ):
            raise _explain(text)
        try:
            days = _days_since_unix(year, month, day)
        except ValueError:
            raise _explain(text) from None
        if sign == "-":
            offset = -offset
        return cls(
            unix=days * _SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - offset,
            nanosecond=int(fraction[:9].ljust(9, "0")) if fraction else 0,
            offset_seconds=offset,
            has_location=bool(sign),
            _text=trim_fraction(text) if _VALID_UTC.fullmatch(text) else None,
        )

    @classmethod
    def from_unix(cls, seconds: int, nanosecond: int = 0, *, offset_seconds: int | None = None) -> Time:
        """The instant `seconds` and `nanosecond` after 1970-01-01T00:00:00Z; both may be negative or large.

        Args:
            seconds: Whole seconds.
            nanosecond: Nanoseconds to add to them.
            offset_seconds: UTC offset of the zone to show it in; None is UTC (``Z``).
        """
        carry, nanosecond = divmod(nanosecond, _NANOSECONDS)
        return cls(seconds + carry, nanosecond, offset_seconds or 0, offset_seconds is not None)

    @classmethod
    def from_unix_nano(cls, nanoseconds: int) -> Time:
        """The instant `nanoseconds` after 1970-01-01T00:00:00Z, in UTC."""
        return cls.from_unix(0, nanoseconds)

    @property
    def unix_nano(self) -> int:
        """Nanoseconds since 1970-01-01T00:00:00Z."""
        return self.unix * _NANOSECONDS + self.nanosecond

    def marshal(self) -> str:
        """The time as Go's ``Time.MarshalJSON`` writes it, without quotes.

        Raises:
            ImageError: the year or the hour of the offset is out of RFC 3339's range; with Go's text.
        """
        if self._text is None:
            year, _, _, _ = self._local_date()
            if not 0 <= year <= 9999:
                raise ImageError("year outside of range [0,9999]")
            if abs(self.offset_seconds) >= _SECONDS_PER_DAY:
                raise ImageError("timezone hour outside of range [0,23]")
            object.__setattr__(self, "_text", str(self))  # only a cache: the value does not change
        return self._text or ""

    def identical(self, other: Time) -> bool:
        """Whether Go's ``reflect.DeepEqual`` considers both equal: the same instant and kind of zone."""
        return self == other and (self.has_location, self.offset_seconds) == (
            other.has_location,
            other.offset_seconds,
        )

    def _local_date(self) -> tuple[int, int, int, int]:
        """Year, month, day and second of the day in local time."""
        days, second = divmod(self.unix + self.offset_seconds, _SECONDS_PER_DAY)
        cycle, day = divmod(days + _UNIX_EPOCH_DAY, _DAYS_PER_CYCLE)
        shown = date.fromordinal(day + 1)
        return shown.year + 400 * cycle, shown.month, shown.day, second

    def __str__(self) -> str:
        """The text that `marshal` returns, and also a text for times that it rejects."""
        year, month, day, second = self._local_date()
        hour, minute = divmod(second // 60, 60)
        fraction = f".{self.nanosecond:09}".rstrip("0") if self.nanosecond else ""
        zone = "Z"
        if self.offset_seconds:
            offset_hour, offset_minute = divmod(abs(self.offset_seconds) // 60, 60)
            zone = f"{'-' if self.offset_seconds < 0 else '+'}{offset_hour:02}:{offset_minute:02}"
        return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second % 60:02}{fraction}{zone}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Time):
            return NotImplemented
        return (self.unix, self.nanosecond) == (other.unix, other.nanosecond)

    def __lt__(self, other: Time) -> bool:
        if not isinstance(other, Time):
            return NotImplemented
        return (self.unix, self.nanosecond) < (other.unix, other.nanosecond)

    def __hash__(self) -> int:
        return hash((self.unix, self.nanosecond))


def trim_fraction(text: str) -> str:
    """Strip trailing zeros from the fraction, if any, of a time that matches `VALID_UTC`."""
    if text[-2] != "0" or "." not in text:
        return text
    return text[:-1].rstrip("0").removesuffix(".") + "Z"


def _days_since_unix(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the proleptic Gregorian calendar, which has a year 0.

    Raises:
        ValueError: there is no such day.
    """
    cycle, year_of_cycle = divmod(year - 1, 400)
    return date(year_of_cycle + 1, month, day).toordinal() - 1 + cycle * _DAYS_PER_CYCLE - _UNIX_EPOCH_DAY


# --- error messages ---

_LAYOUT = "2006-01-02T15:04:05Z07:00"
# Separator, the layout element after it, its name, its range. Go checks the day's range last.
_ELEMENTS = (
    (b"-", "01", "month", range(1, 13)),
    (b"-", "02", "day", range(100)),
    (b"T", "15", "hour", range(24)),
    (b":", "04", "minute", range(60)),
    (b":", "05", "second", range(60)),
)


def _explain(text: str) -> ImageError:
    """The first error that Go reports for a text that is not a valid time."""
    value = text.encode("utf-8", "surrogateescape")

    def cannot_parse(rest: bytes, element: str) -> ImageError:
        return ImageError(
            f'parsing time {_quote(value)} as "{_LAYOUT}": cannot parse {_quote(rest)} as "{element}"'
        )

    def out_of_range(name: str) -> ImageError:
        return ImageError(f"parsing time {_quote(value)}: {name} out of range")

    if _digits(value) < 4:
        return cannot_parse(value, "2006")
    rest = value[4:]
    for separator, element, name, valid in _ELEMENTS:
        if not rest.startswith(separator):
            return cannot_parse(rest, separator.decode())
        rest = rest[1:]
        digits = min(_digits(rest), 2)
        if digits < (1 if element == "15" else 2):
            return cannot_parse(rest, element)
        if int(rest[:digits]) not in valid:
            return out_of_range(name)
        rest = rest[digits:]
    if rest[:1] in {b".", b","}:
        fraction = _digits(rest[1:])
        rest = rest[1 + fraction :] if fraction else rest
    if rest.startswith(b"Z"):
        rest = rest[1:]
    else:
        if len(rest) < 6 or rest[3:4] != b":":
            return cannot_parse(rest, "Z07:00")
        hour_valid = _digits(rest[1:3]) == 2
        minute_valid = hour_valid and _digits(rest[4:6]) == 2
        if minute_valid and int(rest[4:6]) > 60:
            return out_of_range("time zone offset minute")
        if hour_valid and int(rest[1:3]) > 24:
            return out_of_range("time zone offset hour")
        if not minute_valid or rest[:1] not in {b"+", b"-"}:
            return cannot_parse(rest, "Z07:00")
        rest = rest[6:]
    if rest:
        return ImageError(f"parsing time {_quote(value)}: extra text: {_quote(rest)}")
    return out_of_range("day")


def _digits(text: bytes) -> int:
    """The number of ASCII digits at the start of `text`."""
    return len(text) - len(text.lstrip(b"0123456789"))


def _quote(text: bytes) -> str:
    r"""Quote as package ``time`` does: control characters and non-ASCII bytes as ``\xNN``."""
    return (
        '"'
        + "".join(
            f"\\x{b:02x}" if b < 0x20 or b >= 0x80 else f"\\{b:c}" if b in b'"\\' else chr(b) for b in text
        )
        + '"'
    )
