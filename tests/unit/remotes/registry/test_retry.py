"""When and how often requests are retried."""

from __future__ import annotations

import datetime
import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import FailedPreconditionError, UnavailableError
from exporter.remotes.registry.retry import RequestError, Retries, RetryPolicy, parse_retry_after


class Sleeper:
    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.lines: list[str] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def retries(self, **options: float) -> Retries:
        return Retries(RetryPolicy(sleep=self.sleep, **options), self.lines.append)  # type: ignore[arg-type]


def passing(retry_after: float | None = None) -> RequestError:
    return RequestError(UnavailableError("no answer"), may_pass=True, retry_after=retry_after)


async def test_pauses_grow_to_a_limit_and_retries_end() -> None:
    sleeper = Sleeper()
    retries = sleeper.retries(attempts=7, base=1.0, cap=5.0)
    with pytest.raises(UnavailableError, match="no answer"):
        for _ in range(7):
            await retries.wait(passing())
    assert len(sleeper.pauses) == 6
    for pause, longest in zip(sleeper.pauses, (1, 2, 4, 5, 5, 5), strict=True):
        assert longest / 2 <= pause <= longest
    assert len(sleeper.lines) == 6
    assert sleeper.lines[0].startswith("error: no answer; retrying in ")


async def test_pauses_are_random() -> None:
    pauses = {RetryPolicy().pause(3) for _ in range(20)}
    assert len(pauses) > 1


async def test_permanent_failures_are_not_retried() -> None:
    sleeper = Sleeper()
    with pytest.raises(FailedPreconditionError, match="wrong"):
        await sleeper.retries().wait(RequestError(FailedPreconditionError("wrong")))
    assert sleeper.pauses == []


async def test_progress_resets_the_retry_count() -> None:
    sleeper = Sleeper()
    retries = sleeper.retries(attempts=3, base=1.0)
    for _ in range(10):
        await retries.wait(passing())
        retries.progressed()
    assert max(sleeper.pauses) <= 1.0


async def test_retry_after_is_respected() -> None:
    sleeper = Sleeper()
    retries = sleeper.retries(base=1.0, patience=60.0)
    await retries.wait(passing(retry_after=30.0))
    await retries.wait(passing(retry_after=0.01))
    assert sleeper.pauses[0] == 30.0
    assert sleeper.pauses[1] >= 1.0
    with pytest.raises(UnavailableError, match="no answer; it asks to wait 61 s before a retry"):
        await retries.wait(passing(retry_after=61.0))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 17 ", 17.0),
        ("9" * 40, float("inf")),
        (None, None),
        ("", None),
        ("-1", None),
        ("1.5", None),
    ],
)
def test_numbers_of_seconds(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value) == seconds


def test_dates() -> None:
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    seconds = parse_retry_after(email.utils.format_datetime(soon, usegmt=True))
    assert seconds is not None
    assert 3500 < seconds <= 3600
    assert parse_retry_after("Fri, 31 Dec 1999 23:59:59 GMT") == 0.0
    assert parse_retry_after("Fri, 31 Dec 1999 23:59:59 -0000") == 0.0


@given(st.text(max_size=60))
def test_any_text_can_be_read(text: str) -> None:
    seconds = parse_retry_after(text)
    assert seconds is None or seconds >= 0


@given(st.integers(0, 10**9 - 1))
def test_any_number_can_be_read(seconds: int) -> None:
    assert parse_retry_after(str(seconds)) == seconds
