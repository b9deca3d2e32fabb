"""When a writer has to wait for a slow receiver, and when it may go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

HIGH_WATER = 1 << 20
"""Bytes that wait to be sent at which their writer has to wait."""

LOW_WATER = 256 << 10
"""Bytes at which it may go on. The gap lets it write much at once."""


class HighWater:
    """Whether too much waits to be sent.

    Args:
        pause: Called when that has become so.
        resume: Called when it has ended.

    Attributes:
        is_full: Whether it is so.
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
        """Say how much waits."""
        if not self.is_full and waiting > HIGH_WATER:
            self.is_full = True
            self._is_low.clear()
            if self._pause is not None:
                self._pause()
        elif self.is_full and waiting <= LOW_WATER:
            self.open()

    def open(self) -> None:
        """Let writers go on, whatever waits: nothing is to be waited for any more."""
        if self.is_full:
            self.is_full = False
            self._is_low.set()
            if self._resume is not None:
                self._resume()

    async def low(self) -> None:
        """Wait until a writer may go on."""
        await self._is_low.wait()
