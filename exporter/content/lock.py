"""File locks between processes."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from exporter.content.threads import run_in_thread
from exporter.errors import UnavailableError

T = TypeVar("T")

LOCK_TIMEOUT = 30.0
"""Seconds to wait for a lock. It is only held while one small file is updated, so a
longer wait means that the holder has been stopped."""

_NO_DIRECTORY_LOCKS = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSUP})

_POLL_SECONDS = (0.001, 0.01)
"""How long to wait before the second attempt, and at most."""


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


@dataclass(frozen=True, slots=True)
class FileLock:
    """A lock on a file, to be held by `file_locks`.

    Attributes:
        path: The file, which is created if it does not exist; its contents are ignored.
        transient: Remove the file before releasing the lock.
        shared: Exclude only holders of an exclusive lock.
        is_directory: Lock an existing directory. Best effort: NFS has no locks on directories.
    """

    path: Path
    transient: bool = False
    shared: bool = False
    is_directory: bool = False

    def try_acquire(self) -> int | None:
        """Return an open file that holds the lock, or None if it is taken. Blocks, but not for the lock."""
        if self.is_directory:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        else:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # If the file was replaced or removed in the meantime, others lock a different one.
            if self._try_flock(fd) and is_at(fd, self.path):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def _try_flock(self, fd: int) -> bool:
        try:
            return try_flock(fd, shared=self.shared)
        except OSError as error:
            if self.is_directory and error.errno in _NO_DIRECTORY_LOCKS:
                return True
            raise


@asynccontextmanager
async def file_locks(*locks: FileLock, timeout: float = LOCK_TIMEOUT) -> AsyncIterator[None]:
    """Hold several locks, which exclude other processes and other tasks of this process.

    While waiting, none of them is held.

    Args:
        locks: The locks.
        timeout: Seconds to wait.

    Raises:
        UnavailableError: timed out waiting for one of them.
    """
    holder = _Holder(locks)
    try:
        await _poll(holder, holder.try_acquire, timeout)
        yield
    finally:
        holder.release()


async def call_locked(function: Callable[[], T], *locks: FileLock, timeout: float = LOCK_TIMEOUT) -> T:
    """Call a blocking function in a thread while holding locks, with one thread switch instead of two.

    Raises:
        UnavailableError: timed out waiting for one of them.
    """
    holder = _Holder(locks)
    results: list[T] = []

    def attempt() -> bool:
        try:
            if not holder.try_acquire():
                return False
            results.append(function())
            return True
        finally:
            holder.release()

    await _poll(holder, attempt, timeout)
    return results[0]


def file_lock(
    path: Path, *, transient: bool = False, shared: bool = False, timeout: float = LOCK_TIMEOUT
) -> AbstractAsyncContextManager[None]:
    """Hold one lock; see `FileLock` and `file_locks`."""
    return file_locks(FileLock(path, transient, shared), timeout=timeout)


async def _poll(holder: _Holder, attempt: Callable[[], bool], timeout: float) -> None:
    end = asyncio.get_running_loop().time() + timeout
    pause = _POLL_SECONDS[0]
    while not await run_in_thread(attempt):
        if asyncio.get_running_loop().time() >= end:
            raise UnavailableError(f"{holder.busy} has been locked by another process for {timeout:.0f} s")
        await asyncio.sleep(pause)
        pause = min(2 * pause, _POLL_SECONDS[1])


class _Holder:
    """Several locks; all calls block, but not for the locks."""

    def __init__(self, locks: Sequence[FileLock]) -> None:
        self._locks = locks
        self._held: list[tuple[int, FileLock]] = []
        self.busy = locks[0].path

    def try_acquire(self) -> bool:
        for lock in self._locks:
            fd = lock.try_acquire()
            if fd is None:
                self.busy = lock.path
                self.release()
                return False
            self._held.append((fd, lock))
        return True

    def release(self) -> None:
        while self._held:
            fd, lock = self._held.pop()
            try:
                if lock.transient:
                    lock.path.unlink(missing_ok=True)
            finally:
                os.close(fd)


def is_at(fd: int, path: Path) -> bool:
    """Whether `path` still refers to an open file."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
