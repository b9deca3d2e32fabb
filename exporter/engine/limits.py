"""How many exports run at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from exporter.errors import ResourceExhaustedError


class Admission:
    """Lets a bounded number of exports run; more wait in line, first come, first served.

    Each running export holds file descriptors, a scratch directory and threads, so an unbounded number of
    them would end in errors that hit the innocent; waiting in line costs a client nothing but time.

    Args:
        running: How many run at once.
        waiting: How many may wait.
    """

    def __init__(self, running: int, waiting: int) -> None:
        self._slots = asyncio.Semaphore(running)
        self._running_limit = running
        self._waiting_limit = waiting
        self.waiting = 0

    @asynccontextmanager
    async def slot(self, on_wait: Callable[[int], None]) -> AsyncIterator[None]:
        """Hold a slot.

        Args:
            on_wait: Called with the number of those ahead in line, if the slot is not free at once.

        Raises:
            ResourceExhaustedError: too many wait already.
        """
        if self._slots.locked():
            await self._wait_in_line(on_wait)
        else:
            await self._slots.acquire()
        try:
            yield
        finally:
            self._slots.release()

    async def _wait_in_line(self, on_wait: Callable[[int], None]) -> None:
        if self.waiting >= self._waiting_limit:
            raise ResourceExhaustedError(
                f"{self._running_limit} exports are running and {self.waiting} are waiting, which is all "
                "that this server takes; try again later, or raise its limits"
            )
        on_wait(self.waiting)
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
