"""Scratch directories, removed with their export or, at the latest, after their process has died."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from exporter.content.lock import try_flock
from exporter.content.threads import run_in_thread
from exporter.errors import FailedPreconditionError, os_error_text
from exporter.rpc.temporary import make_private_directory

_LOCK_NAME = ".lock"


class ScratchSpace:
    """The process's own directory under ``ROOT/scratch``, with a subdirectory for each export.

    Without a root, it is in ``$TMPDIR``. The process holds a lock on it as long as it lives. If a process
    died without cleaning up, its lock is free, and the next process that starts removes its directory.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self._path = path
        self._lock = lock

    @classmethod
    @asynccontextmanager
    async def open(cls, root: Path | None) -> AsyncIterator[ScratchSpace]:
        """Create the process's directory, and remove it at the end.

        Raises:
            FailedPreconditionError: there is no root, and no usable directory for temporary files.
            OSError: the directory cannot be created below the root.
        """
        if root is None:
            space = await run_in_thread(cls._open_temporary)
        else:
            space = await run_in_thread(cls._open, root / "scratch")
        try:
            yield space
        finally:
            await run_in_thread(space._close)

    @asynccontextmanager
    async def directory(self) -> AsyncIterator[Path]:
        """Create a directory for an export, and remove it with its contents at the end."""
        path = self._path / f"export-{secrets.token_hex(8)}"
        try:
            await run_in_thread(path.mkdir, 0o700)
            yield path
        finally:
            await run_in_thread(_remove_tree, path)

    @classmethod
    def _open(cls, parent: Path) -> ScratchSpace:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Starting processes take turns, so that none removes the directory of another before it is locked.
        turn = os.open(parent / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(turn, fcntl.LOCK_EX)
            for entry in parent.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    _remove_if_dead(entry)
            path = Path(tempfile.mkdtemp(prefix=f"server-{os.getpid()}-", dir=parent))
            descriptor = _open_directory(path)
            try_flock(descriptor)
            return cls(path, descriptor)
        finally:
            os.close(turn)

    @classmethod
    def _open_temporary(cls) -> ScratchSpace:
        try:
            path, descriptor = make_private_directory()
        except OSError as error:
            raise FailedPreconditionError(
                f"there is no directory for scratch files: {os_error_text(error)}; "
                "set TMPDIR to a writable directory, or choose one with --root"
            ) from error
        return cls(path, descriptor)

    def _close(self) -> None:
        _remove_tree(self._path)
        os.close(self._lock)


def _open_directory(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _remove_if_dead(path: Path) -> None:
    descriptor = _open_directory(path)
    try:
        if try_flock(descriptor):
            _remove_tree(path)
    finally:
        os.close(descriptor)


def _remove_tree(path: Path) -> None:
    """Remove `path` with its contents, including directories that are not writable."""

    def make_writable(function: object, name: str, error: object) -> None:
        entry = Path(name)
        entry.parent.chmod(0o700)
        if entry.is_dir() and not entry.is_symlink():
            entry.chmod(0o700)
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)

    try:
        path.rmdir()  # most exports leave it empty
    except FileNotFoundError:
        return
    except OSError:
        shutil.rmtree(path, onerror=make_writable)
