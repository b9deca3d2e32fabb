"""Showing progress while it happens."""

from __future__ import annotations

import asyncio
import enum
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Protocol, TextIO

from exporter.errors import InvalidArgumentError
from exporter.progress.model import StatusSink, StatusUpdate
from exporter.progress.plain import PlainRenderer
from exporter.progress.queue import CoalescingQueue
from exporter.progress.rawjson import RawJSONRenderer

_REFRESH_AFTER = 0.15  # seconds without news


class ProgressMode(enum.StrEnum):
    """How progress is shown: the values of buildctl's ``--progress``."""

    AUTO = "auto"
    PLAIN = "plain"
    TTY = "tty"
    RAWJSON = "rawjson"
    QUIET = "quiet"


class Renderer(Protocol):
    """Shows progress. Its methods may block, and are never called concurrently."""

    def update(self, update: StatusUpdate) -> None:
        """Accept an update and show it, now or at the next refresh."""
        ...

    def refresh(self) -> None:
        """Show pending changes; called periodically while there are no updates."""
        ...

    def close(self) -> None:
        """Show everything that is still pending, and finish."""
        ...


class QuietRenderer:
    """Shows nothing."""

    def update(self, update: StatusUpdate) -> None:
        """Do nothing."""

    def refresh(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def open_renderer(
    mode: str, stream: TextIO, *, phase: str = "Building", environ: Mapping[str, str] | None = None
) -> Renderer:
    """Make the renderer for a mode.

    ``auto`` uses the mode in ``BUILDKIT_PROGRESS`` if set, else ``tty`` on a terminal that can move its
    cursor, else ``plain``.

    Args:
        mode: One of `ProgressMode`.
        stream: The output, usually standard error.
        phase: What is in progress, for the first line on a terminal.
        environ: The environment variables; those of the process if None.

    Raises:
        InvalidArgumentError: there is no such mode, or the mode is ``tty`` and `stream` is not a terminal.
    """
    environ = os.environ if environ is None else environ
    origin = ""
    if mode == ProgressMode.AUTO and environ.get("BUILDKIT_PROGRESS"):
        mode, origin = environ["BUILDKIT_PROGRESS"], " in $BUILDKIT_PROGRESS"
    if mode == ProgressMode.AUTO:
        can_redraw = stream.isatty() and environ.get("TERM", "").lower() not in {"", "dumb", "unknown"}
        mode = ProgressMode.TTY if can_redraw else ProgressMode.PLAIN
    match mode:
        case ProgressMode.PLAIN:
            return PlainRenderer(stream.buffer)
        case ProgressMode.RAWJSON:
            return RawJSONRenderer(stream.buffer)
        case ProgressMode.QUIET:
            return QuietRenderer()
        case ProgressMode.TTY:
            if not stream.isatty():
                raise InvalidArgumentError(
                    "--progress=tty: the output is not a terminal; use plain or auto", field="progress"
                )
            # Importing rich is slow, and only terminals need it.
            from exporter.progress.tty import TTYRenderer

            return TTYRenderer(stream, phase=phase)
    modes = "|".join(ProgressMode)
    raise InvalidArgumentError(f"invalid progress mode {mode}{origin}: use {modes}", field="progress")


@asynccontextmanager
async def display(renderer: Renderer) -> AsyncIterator[StatusSink]:
    """Show the updates that the block puts into the sink. On exit, everything has been shown.

    Rendering runs in a thread, so that a blocked terminal or pipe never blocks the event loop; meanwhile,
    updates are merged. If the renderer fails to write, the rest is silently discarded: an export must not
    fail because of its progress display.
    """
    queue = CoalescingQueue()
    task = asyncio.create_task(_render(queue, renderer), name="progress display")
    try:
        yield queue.put
    finally:
        queue.close()
        await task


async def _render(queue: CoalescingQueue, renderer: Renderer) -> None:
    try:
        while True:
            try:
                update = await asyncio.wait_for(queue.get(), _REFRESH_AFTER)
            except TimeoutError:
                await asyncio.to_thread(renderer.refresh)
                continue
            if update is None:
                break
            await asyncio.to_thread(renderer.update, update)
        await asyncio.to_thread(renderer.close)
    except OSError:  # the reader is gone
        async for _ in queue:
            pass
