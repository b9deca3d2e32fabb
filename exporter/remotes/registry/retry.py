"""When a request is tried again, and after how long."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from exporter.errors import ExporterError, UnavailableError

OnRetry = Callable[[str], None]
"""Told in a line of text what went wrong and that it will be tried again."""

_LONGEST_NUMBER = 9  # digits; more seconds than that mean never, and would not fit into a float one day


class RequestError(Exception):
    """A try that failed. Stays within this package: what a caller sees is `error`.

    Attributes:
        error: What it means.
        may_pass: Whether the same request may succeed when tried again.
        retry_after: Seconds that the registry wants us to wait.
        status: Of the answer, if there was one.
        challenges: The answer's ``WWW-Authenticate``.
    """

    def __init__(
        self,
        error: ExporterError,
        *,
        may_pass: bool = False,
        retry_after: float | None = None,
        status: int | None = None,
        challenges: tuple[str, ...] = (),
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.may_pass = may_pass
        self.retry_after = retry_after
        self.status = status
        self.challenges = challenges


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and after how long, something is tried again.

    Attributes:
        attempts: Tries in all, the first included. Progress made between two failures starts the count anew.
        base: Seconds to wait before the second try; doubled before each further one.
        cap: The longest such pause, in seconds. Each pause is then shortened at random, by half at the most,
            so that many clients do not come back at the same moment.
        patience: The longest ``Retry-After`` that is waited for, in seconds.
        sleep: Waits; a parameter for tests.
    """

    attempts: int = 5
    base: float = 0.5
    cap: float = 8.0
    patience: float = 120.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def pause(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        longest: float = min(self.cap, self.base * 2 ** min(failures - 1, 30))
        return longest * random.uniform(0.5, 1.0)


class Retries:
    """The tries of one piece of work.

    Args:
        policy: How many there may be.
        on_retry: See `OnRetry`.
    """

    def __init__(self, policy: RetryPolicy, on_retry: OnRetry | None = None) -> None:
        self._policy = policy
        self._on_retry = on_retry
        self._failures = 0

    def progressed(self) -> None:
        """Something was achieved: the failures before it no longer count."""
        self._failures = 0

    async def wait(self, failure: RequestError) -> None:
        """Wait before the next try.

        Raises:
            ExporterError: what `failure` means, if there is to be no other try.
        """
        self._failures += 1
        if not failure.may_pass or self._failures >= self._policy.attempts:
            raise failure.error from failure.__cause__
        pause = self._policy.pause(self._failures)
        wanted = failure.retry_after or 0.0
        if wanted > self._policy.patience:
            message = (
                f"{failure.error}; it asks not to be asked again for {wanted:.0f} s: try again after that"
            )
            raise UnavailableError(message) from failure
        pause = max(pause, wanted)
        if self._on_retry is not None:
            self._on_retry(f"error: {failure.error}; retrying in {pause:.1f}s")
        await self._policy.sleep(pause)


def parse_retry_after(value: str | None) -> float | None:
    """Read a ``Retry-After`` header (RFC 9110): a number of seconds, or a date; None if it is neither."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) <= _LONGEST_NUMBER else float("inf")
    try:
        when = email.utils.parsedate_to_datetime(text)
        if when.tzinfo is None:  # ``-0000``: in UTC, but from an unknown place
            when = when.replace(tzinfo=datetime.UTC)
        return max((when - datetime.datetime.now(datetime.UTC)).total_seconds(), 0.0)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
