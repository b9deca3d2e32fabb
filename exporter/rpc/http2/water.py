"""Backpressure: when writers wait for a slow receiver, and when they continue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

HIGH_WATER = 1 << 20
"""Writers wait above this number of queued bytes."""

LOW_WATER = 256 << 10
"""Writers continue at this number of queued bytes. The gap lets them write large batches."""


class HighWater:
    """Watches the number of queued bytes.

    Args:
        pause: Called when it exceeds `HIGH_WATER`.
        resume: Called when it has dropped to `LOW_WATER`.

    Attributes:
        is_full: Whether writers have to wait.
    """

    def __init__(
        self, pause: Callable[[], None] | None = None, resume: Callable[[], None] | None = None
    ) -> None:
        self.is_full = False
        self._pause = pause
        self._resume = resume
        self._is_low = asyncio.Event()
        self._is_low.set()

    def note(self, waiting: int) -> None:
        """Update the number of queued bytes."""
        if not self.is_full and waiting > HIGH_WATER:
            self.is_full = True
            self._is_low.clear()
            if self._pause is not None:
                self._pause()
        elif self.is_full and waiting <= LOW_WATER:
            self.open()

    def open(self) -> None:
        """Let all writers continue, whatever is queued: there is nothing left to wait for."""
        if self.is_full:
            self.is_full = False
            self._is_low.set()
            if self._resume is not None:
                self._resume()

    async def low(self) -> None:
        """Wait until writers may continue."""
        await self._is_low.wait()
