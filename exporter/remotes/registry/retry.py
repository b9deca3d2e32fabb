"""When to retry a request, and after how long."""

from __future__ import annotations

import asyncio
import datetime
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from exporter.errors import ExporterError, UnavailableError

OnRetry = Callable[[str], None]
"""Called before a retry, with a line of text that says what failed."""

_LONGEST_NUMBER = 9  # digits; more seconds mean never, and very large numbers would overflow a float


class RequestError(Exception):
    """A failed attempt. Internal to this package: callers get `error`.

    Attributes:
        error: The error for the caller.
        may_pass: Whether a retry may succeed.
        retry_after: Seconds that the registry wants us to wait.
        status: The status of the response, if there was one.
        challenges: The ``WWW-Authenticate`` headers of the response.
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
    """How often to retry, and after how long.

    Attributes:
        attempts: Total number of attempts, including the first. Progress between two failures resets the
            count.
        base: Seconds to wait before the second attempt; doubled before each further one.
        cap: Maximum pause in seconds. Each pause is then randomly shortened by up to half, so that many
            clients do not retry at the same time.
        patience: Maximum ``Retry-After`` to wait for, in seconds.
        sleep: Waits; a parameter for tests.
    """

    attempts: int = 5
    base: float = 0.5
    cap: float = 8.0
    patience: float = 120.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def pause(self, failures: int) -> float:
        """Seconds to wait after this number of consecutive failures."""
        longest: float = min(self.cap, self.base * 2 ** min(failures - 1, 30))
        return longest * random.uniform(0.5, 1.0)


class Retries:
    """The attempts of one operation.

    Args:
        policy: The retry policy.
        on_retry: See `OnRetry`.
    """

    def __init__(self, policy: RetryPolicy, on_retry: OnRetry | None = None) -> None:
        self._policy = policy
        self._on_retry = on_retry
        self._failures = 0

    def progressed(self) -> None:
        """Record progress: previous failures no longer count."""
        self._failures = 0

    async def wait(self, failure: RequestError) -> None:
        """Wait before the next attempt.

        Raises:
            ExporterError: the error of `failure`, if there is no further attempt.
        """
        self._failures += 1
        if not failure.may_pass or self._failures >= self._policy.attempts:
            raise failure.error from failure.__cause__
        pause = self._policy.pause(self._failures)
        wanted = failure.retry_after or 0.0
        if wanted > self._policy.patience:
            message = f"{failure.error}; it asks to wait {wanted:.0f} s before a retry: try again after that"
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
    from email.utils import parsedate_to_datetime  # slow, and rarely needed

    try:
        when = parsedate_to_datetime(text)
        if when.tzinfo is None:  # ``-0000``: UTC, with an unknown local time zone
            when = when.replace(tzinfo=datetime.UTC)
        return max((when - datetime.datetime.now(datetime.UTC)).total_seconds(), 0.0)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
