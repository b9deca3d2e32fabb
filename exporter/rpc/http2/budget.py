"""What connections may make us hold in memory beyond their windows: each of them, and all together.

Flow control bounds what a peer sends before anybody takes it. Some things have to be held all the same: a
message that has to be read whole and is larger than a window, the headers of calls that wait. They are
counted here before the peer gets credit for more.
"""

from __future__ import annotations

from collections.abc import Callable

CLIENT_BYTES = 64 << 20
"""What may be held for a client: four of the largest messages that BuildKit takes."""

CONNECTION_BYTES = 160 << 20
"""What may be held for a connection with daemons, which send messages of up to 128 MiB into sessions."""

TOTAL_BYTES = 512 << 20
"""What all may have held together."""


class Budget:
    """Bytes that may be held for all connections together.

    If there are too many, the connection that has the most of them is ended: honest clients have little.

    Args:
        total: How many.
    """

    def __init__(self, total: int = TOTAL_BYTES) -> None:
        self.total = total
        self.used = 0
        self._shares: set[Share] = set()

    def share(self, limit: int = CONNECTION_BYTES) -> Share:
        """A share of at most so much, for one connection and for those inside it."""
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
    """What is held for one connection. Made by `Budget.share`.

    Attributes:
        limit: How many there may be.
        used: How many there are.
        on_exhausted: Ends the connection, since all together hold too much and this one the most.
    """

    def __init__(self, budget: Budget, limit: int) -> None:
        self._budget = budget
        self.limit = limit
        self.used = 0
        self.on_exhausted: Callable[[], None] | None = None

    def take(self, amount: int) -> bool:
        """Count bytes that are to be held; returns whether they may be."""
        return self._budget.take(self, amount)

    def give(self, amount: int) -> None:
        """Count bytes that are held no more."""
        if amount:
            self._budget.give(self, amount)


class Allowance:
    """Something that may be done often, but not all the time: so many times at once, and so many a second.

    Args:
        burst: Times at once.
        rate: Times a second.
        clock: Gives seconds.
    """

    def __init__(self, burst: int, rate: float, clock: Callable[[], float]) -> None:
        self._burst = burst
        self._rate = rate
        self._clock = clock
        self._left = float(burst)
        self._time = clock()

    def use(self, times: int = 1) -> bool:
        """Do it; returns whether it may be done so often."""
        if self._left < times:
            now = self._clock()
            self._left = min(self._burst, self._left + (now - self._time) * self._rate)
            self._time = now
            if self._left < times:
                return False
        self._left -= times
        return True
