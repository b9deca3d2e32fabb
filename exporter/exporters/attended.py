"""Guards for plugins: their prints go to the log, and so do warnings that they block the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import io
import logging
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TextIO, cast

from exporter.exporters.base import Exporter
from exporter.exporters.plugins import origin_of
from exporter.image.go import text as gotext
from exporter.progress.producer import VertexProgress

__all__ = ["attended", "printing_to_log"]

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 2.0
"""How long a plugin may block the event loop before a warning is logged."""

_BEATS = 4
"""Heartbeats of the loop within `PATIENCE_SECONDS`."""


@contextmanager
def attended(kind: type[Exporter], progress: VertexProgress) -> Iterator[None]:
    """Guard an export or a finalizer of a plugin: its prints become log output of the vertex.

    If it blocks the event loop, the process's log says where. Built-in types are not guarded.
    """
    if origin_of(kind) is None:
        yield
        return
    loop, ident = asyncio.get_running_loop(), threading.get_ident()

    def log(line: str) -> None:
        if threading.get_ident() == ident:
            progress.log(f"{line}\n", stream=1)
        else:
            loop.call_soon_threadsafe(progress.log, f"{line}\n")

    with _capturing(log), _watching(kind, loop):
        yield


@contextmanager
def printing_to_log(who: str) -> Iterator[None]:
    """Redirect prints to the process's log, attributed to `who`."""
    with _capturing(lambda line: logger.warning("%s printed: %s", who, line)):
        yield


class _Lines:
    """Splits text into lines for a log function."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._rest = ""

    def write(self, text: str) -> None:
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._log(line)

    def end(self) -> None:
        if self._rest:
            self.write("\n")


_LINES: contextvars.ContextVar[_Lines | None] = contextvars.ContextVar("_LINES", default=None)
"""The destination of prints by the current task or thread; None for standard output."""


class _Stdout(io.TextIOBase):
    """Standard output that diverts the text of plugins. Binary output, such as an archive, is unaffected."""

    def __init__(self, stdout: TextIO) -> None:
        self.stdout = stdout

    def write(self, text: str) -> int:
        lines = _LINES.get()
        if lines is None:
            return self.stdout.write(text)
        lines.write(text)
        return len(text)

    def flush(self) -> None:
        if not self.stdout.closed:
            self.stdout.flush()

    def writable(self) -> bool:
        return True

    def __getattribute__(self, name: str) -> Any:
        if name in {"buffer", "encoding", "errors", "fileno", "isatty", "newlines", "closed"}:
            return getattr(object.__getattribute__(self, "stdout"), name)
        return object.__getattribute__(self, name)


class _Users:
    """Replaces standard output while any code captures it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._ours: _Stdout | None = None

    def enter(self) -> None:
        with self._lock:
            self._count += 1
            if not isinstance(sys.stdout, _Stdout) and sys.stdout is not None:
                self._ours = _Stdout(sys.stdout)
                sys.stdout = cast(TextIO, self._ours)

    def leave(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0 and self._ours is not None:
                if sys.stdout is cast(TextIO, self._ours):
                    sys.stdout = self._ours.stdout
                self._ours = None


_USERS = _Users()


@contextmanager
def _capturing(log: Callable[[str], None]) -> Iterator[None]:
    lines = _Lines(log)
    _USERS.enter()
    token = _LINES.set(lines)
    try:
        yield
    finally:
        _LINES.reset(token)
        _USERS.leave()
        lines.end()


class TaskExitError(Exception):
    """A task of a plugin tried to exit the process."""


class _Guarded(Coroutine[Any, Any, Any]):
    """A coroutine that cannot exit the process: in a task, SystemExit would stop the event loop."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self.__name__ = getattr(coroutine, "__name__", type(coroutine).__name__)
        self.__qualname__ = getattr(coroutine, "__qualname__", self.__name__)

    def send(self, value: Any) -> Any:
        with _staying():
            return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        with _staying():
            return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Any:
        return self._coroutine.__await__()


@contextmanager
def _staying() -> Iterator[None]:
    try:
        yield
    except (SystemExit, KeyboardInterrupt) as error:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise TaskExitError(f"a task raised {text}") from error


class _Watch:
    """Watches an event loop from a thread while plugins run on it, to detect that it is blocked."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.kinds: list[type[Exporter]] = []
        self._loop = loop
        self._ident = threading.get_ident()
        self._patience = PATIENCE_SECONDS
        self._ended = threading.Event()
        self._last = 0.0
        self._has_told = False
        self._factory = loop.get_task_factory()
        loop.set_task_factory(cast(Any, self._make_task))
        self._beat()
        threading.Thread(target=self._run, name="loop watch", daemon=True).start()

    def end(self) -> None:
        self._ended.set()
        self._next.cancel()
        self._loop.set_task_factory(self._factory)

    def _make_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **keywords: Any) -> Any:
        if _LINES.get() is not None:
            coroutine = _Guarded(coroutine)
        if self._factory is not None:
            return cast(Any, self._factory)(loop, coroutine, **keywords)
        return asyncio.Task(coroutine, loop=loop, **keywords)

    def _beat(self) -> None:
        self._last, self._has_told = time.monotonic(), False
        self._next = self._loop.call_later(self._patience / _BEATS, self._beat)

    def _run(self) -> None:
        while not self._ended.wait(self._patience / _BEATS):
            if time.monotonic() - self._last > self._patience and not self._has_told:
                self._has_told = True
                self._tell(sys._current_frames().get(self._ident))

    def _tell(self, frame: FrameType | None) -> None:
        """Warn about the plugin whose code is on the stack. Do nothing if no plugin is."""
        packages = {kind.__module__.partition(".")[0]: kind for kind in list(self.kinds)}
        while frame is not None:
            kind = packages.get(str(frame.f_globals.get("__name__", "")).partition(".")[0])
            if kind is not None:
                origin = origin_of(kind)
                of = f" of {origin.distribution}" if origin is not None and origin.distribution else ""
                logger.warning(
                    "the exporter %s%s has been blocking the event loop for more than %g s, in %s, line %d: "
                    "other exports stand still. Use asyncio.to_thread for blocking work, or make it a "
                    "BlockingExporter",
                    *(gotext.quote(kind.type), of, self._patience, frame.f_code.co_filename, frame.f_lineno),
                )
                return
            frame = frame.f_back


_WATCHES: dict[asyncio.AbstractEventLoop, _Watch] = {}


@contextmanager
def _watching(kind: type[Exporter], loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    watch = _WATCHES.get(loop)
    if watch is None:
        watch = _WATCHES[loop] = _Watch(loop)
    watch.kinds.append(kind)
    try:
        yield
    finally:
        watch.kinds.remove(kind)
        if not watch.kinds:
            del _WATCHES[loop]
            watch.end()
