"""Limits on the memory that connections use beyond their windows: for each connection, and in total.

Flow control bounds the data that a peer sends before the receiver has accepted it. It does not bound
everything that has to be buffered: a message larger than a window that must be read as a whole, and the
headers of pending calls. Such bytes are counted here before the peer gets more credit.
"""

from __future__ import annotations

from collections.abc import Callable

CLIENT_BYTES = 64 << 20
"""The limit for a client in bytes: four of the largest messages that BuildKit accepts."""

CONNECTION_BYTES = 160 << 20
"""The limit for a connection to a daemon in bytes. Daemons send messages of up to 128 MiB into sessions."""

TOTAL_BYTES = 512 << 20
"""The limit for all connections together in bytes."""


class Budget:
    """Counts the bytes held for all connections together.

    Above the limit, the connection that holds the most is closed. Well-behaved clients hold little.

    Args:
        total: The limit in bytes.
    """

    def __init__(self, total: int = TOTAL_BYTES) -> None:
        self.total = total
        self.used = 0
        self._shares: set[Share] = set()

    def share(self, limit: int = CONNECTION_BYTES) -> Share:
        """Create a share of at most `limit` bytes, for a connection and those tunnelled inside it."""
        return Share(self, limit)

    def take(self, share: Share, amount: int) -> bool:
        """See `Share.take`."""
        self._shares.add(share)
        share.used += amount
        self.used += amount
        while self.used > self.total:
            before = self.used
            heaviest = max(self._shares, key=lambda found: found.used)
            if heaviest is not share and heaviest.on_exhausted is not None:
                heaviest.on_exhausted()
            if self.used >= before:
                break
        if share.used <= share.limit and self.used <= self.total:
            return True
        self.give(share, amount)
        return False

    def give(self, share: Share, amount: int) -> None:
        """See `Share.give`."""
        share.used -= amount
        self.used -= amount
        if not share.used:
            self._shares.discard(share)


class Share:
    """Counts the bytes held for one connection. Created by `Budget.share`.

    Attributes:
        limit: The limit in bytes.
        used: The bytes held now.
        on_exhausted: Closes the connection. Called if the total is exceeded and this share is the largest.
    """

    def __init__(self, budget: Budget, limit: int) -> None:
        self._budget = budget
        self.limit = limit
        self.used = 0
        self.on_exhausted: Callable[[], None] | None = None

    def take(self, amount: int) -> bool:
        """Count bytes before they are held. Returns False, and counts nothing, if they exceed a limit."""
        return self._budget.take(self, amount)

    def give(self, amount: int) -> None:
        """Stop counting bytes that are no longer held."""
        if amount:
            self._budget.give(self, amount)


class Allowance:
    """A rate limit (token bucket).

    Args:
        burst: The number of tokens in a full bucket.
        rate: Tokens added per second.
        clock: Returns the time in seconds.
    """

    def __init__(self, burst: int, rate: float, clock: Callable[[], float]) -> None:
        self._burst = burst
        self._rate = rate
        self._clock = clock
        self._left = float(burst)
        self._time = clock()

    def use(self, times: int = 1) -> bool:
        """Take `times` tokens. Returns False, and takes none, if there are fewer."""
        if self._left < times:
            now = self._clock()
            self._left = min(self._burst, self._left + (now - self._time) * self._rate)
            self._time = now
            if self._left < times:
                return False
        self._left -= times
        return True
