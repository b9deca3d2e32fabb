from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.content.lock import FileLock, call_locked, file_lock
from exporter.errors import UnavailableError

_HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


async def test_tasks_exclude_one_another(tmp_path: Path) -> None:
    inside = 0

    async def hold() -> None:
        nonlocal inside
        async with file_lock(tmp_path / "lock"):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(hold() for _ in range(8)))


async def test_processes_exclude_one_another(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _HOLDER, str(path)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    await holder.stdout.readline()
    with pytest.raises(UnavailableError, match="lock has been locked by another process"):
        async with file_lock(path, timeout=0):
            pass
    waiting = asyncio.create_task(_hold_shortly(path))
    await holder.communicate(b"")
    await waiting


async def _hold_shortly(path: Path) -> None:
    async with file_lock(path):
        pass


async def test_a_transient_file_is_removed_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    async def hold() -> None:
        async with file_lock(path, transient=True):
            assert path.exists()
            await asyncio.sleep(0)

    await asyncio.gather(*(hold() for _ in range(8)))
    assert not path.exists()


async def test_a_replaced_file_does_not_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    async with file_lock(path):
        path.unlink()
        # A new caller locks a new file; one that waited for the old file must not consider it locked.
        async with file_lock(path):
            assert path.exists()


async def test_the_contents_stay(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(b"contents")
    async with file_lock(path):
        pass
    assert path.read_bytes() == b"contents"


async def test_waiting_can_be_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    async with file_lock(path):
        waiting = asyncio.create_task(_hold_shortly(path))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with file_lock(path, timeout=0):
        pass


async def test_a_function_waits_for_the_lock(tmp_path: Path) -> None:
    path, calls = tmp_path / "lock", []

    def function() -> str:
        calls.append("called")
        return "result"

    async with file_lock(path):
        with pytest.raises(UnavailableError, match="has been locked by another process"):
            await call_locked(function, FileLock(path), timeout=0.01)
        assert calls == []
        waiting = asyncio.create_task(call_locked(function, FileLock(path)))
        await asyncio.sleep(0.02)
        assert calls == []
    assert await waiting == "result"
    assert calls == ["called"]


@pytest.mark.parametrize("number", [errno.EBADF, errno.EINVAL, errno.ENOTSUP, errno.EIO])
@pytest.mark.parametrize("is_directory", [True, False])
async def test_a_file_system_without_locks_on_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_directory: bool
) -> None:
    """As NFS; anything else is an error."""

    def refuse(fd: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("exporter.content.lock.fcntl.flock", refuse)
    lock = FileLock(tmp_path if is_directory else tmp_path / "lock", is_directory=is_directory)
    if is_directory and number != errno.EIO:
        fd = lock.try_acquire()
        assert fd is not None
        os.close(fd)
    else:
        with pytest.raises(OSError) as caught:
            lock.try_acquire()
        assert caught.value.errno == number
