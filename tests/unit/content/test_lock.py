from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.content.lock import file_lock
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
