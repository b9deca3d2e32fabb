"""File locks between processes."""

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
"""Seconds to wait for a lock. It is only held while one small file is updated, so a
longer wait means that the holder has been stopped."""

_POLL_INTERVAL = 0.01


def try_flock(fd: int, *, shared: bool = False) -> bool:
    """Try to take the ``flock`` of an open file without waiting. Closing the file releases it.

    Args:
        fd: The file.
        shared: Whether to take a shared lock.
    """
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@asynccontextmanager
async def file_lock(
    path: Path, *, transient: bool = False, shared: bool = False, timeout: float = LOCK_TIMEOUT
) -> AsyncIterator[None]:
    """Hold a lock on the file at `path`, which is created if it does not exist.

    It excludes other processes as well as other tasks of this process.

    Args:
        path: The file; its contents are ignored.
        transient: Remove the file before releasing the lock.
        shared: Exclude only holders of an exclusive lock.
        timeout: Seconds to wait.

    Raises:
        UnavailableError: timed out waiting for the lock.
    """
    lock = _FileLock(path, shared=shared)
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
    def __init__(self, path: Path, *, shared: bool) -> None:
        self._path = path
        self._shared = shared
        self._fd: int | None = None

    def try_acquire(self) -> bool:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # If the file was replaced or removed in the meantime, others lock a different one.
            if try_flock(fd, shared=self._shared) and is_at(fd, self._path):
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
    """Whether `path` still refers to an open file."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
