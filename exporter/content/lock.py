"""Locks between processes, on files."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from exporter.content.threads import run_in_thread
from exporter.errors import UnavailableError

LOCK_TIMEOUT = 30.0
"""Seconds to wait for a lock. Holders keep it for the update of one small file, so
whoever waits this long waits for a process that was stopped."""

_POLL_INTERVAL = 0.01


def try_flock(fd: int) -> bool:
    """Take the lock (``flock``) of an open file if nobody has it. It ends when the file is closed."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@asynccontextmanager
async def file_lock(
    path: Path, *, transient: bool = False, timeout: float = LOCK_TIMEOUT
) -> AsyncIterator[None]:
    """Hold the exclusive lock of the file at `path`, which is made if it does not exist.

    Excludes other processes and other tasks of this one alike.

    Args:
        path: The file; its contents are left alone.
        transient: Remove the file before the lock is given back.
        timeout: Seconds to wait.

    Raises:
        UnavailableError: somebody else held the lock all the time.
    """
    lock = _FileLock(path)
    end = asyncio.get_running_loop().time() + timeout
    try:
        while not await run_in_thread(lock.try_acquire):
            if asyncio.get_running_loop().time() >= end:
                raise UnavailableError(f"{path} has been locked by another process for {timeout:.0f} s")
            await asyncio.sleep(_POLL_INTERVAL)
        yield
    finally:
        lock.release(remove=transient)


class _FileLock:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def try_acquire(self) -> bool:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # A file that was replaced or removed while we waited is a lock that nobody else looks at any
            # more.
            if try_flock(fd) and is_at(fd, self._path):
                self._fd, fd = fd, -1
        finally:
            if fd >= 0:
                os.close(fd)
        return self._fd is not None

    def release(self, *, remove: bool) -> None:
        if self._fd is None:
            return
        try:
            if remove:
                self._path.unlink(missing_ok=True)
        finally:
            os.close(self._fd)


def is_at(fd: int, path: Path) -> bool:
    """Tell whether an open file is the one that `path` leads to."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
