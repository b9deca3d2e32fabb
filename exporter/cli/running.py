"""Running a command on an event loop, with cancellation by signals."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

from exporter.cli.failures import ExitCode


def run_async(command: Coroutine[Any, Any, int]) -> int:
    """Run a command; SIGINT and SIGTERM cancel it.

    The command cleans up when it is cancelled. A second signal kills the process immediately.

    Returns:
        The command's exit status; after a signal, 128 plus the signal's number.
    """
    return asyncio.run(_run(command))


async def _run(command: Coroutine[Any, Any, int]) -> int:
    loop = asyncio.get_running_loop()
    task = loop.create_task(command)
    received: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        received.append(number)
        task.cancel()
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            raise
        return ExitCode.SIGNAL + received[0]
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
