"""Limiting the number of concurrent exports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from exporter.errors import ResourceExhaustedError


class Admission:
    """Limits the number of concurrent exports. Further exports wait in FIFO order.

    Each running export needs file descriptors, a scratch directory and threads. Without a limit, some exports
    would fail because of others; waiting only costs time.

    Args:
        running: Maximum number of running exports.
        waiting: Maximum number of waiting exports.
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
            on_wait: Called with the number of waiting exports ahead, if no slot is free.

        Raises:
            ResourceExhaustedError: too many exports are already waiting.
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
                f"{self._running_limit} exports are running and {self.waiting} are waiting, which is this "
                "server's limit; try again later, or raise its limits"
            )
        on_wait(self.waiting)
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
