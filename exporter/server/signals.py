"""Termination signals of a server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_TAKEN = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def queued_signals() -> Iterator[asyncio.Queue[signal.Signals]]:
    """Queue SIGTERM and SIGINT while the block runs, on the running event loop."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in _TAKEN:
        loop.add_signal_handler(number, queue.put_nowait, number)
    try:
        yield queue
    finally:
        for number in _TAKEN:
            loop.remove_signal_handler(number)
