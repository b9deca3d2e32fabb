"""Naming unfinished files in a destination directory, and removing those of killed exports.

An export (here: a run) marks the destination with a directory that it keeps locked (``flock``). The name of
the mark contains an ID, and so do those of its unfinished files. This distinguishes the leftovers of a killed
run from concurrent work and from a user's files: a later run searches for them only if it finds an unlocked
mark. All calls block.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from contextlib import suppress
from typing import Final

__all__ = ["Run", "is_ours"]

_ATTEMPTS: Final = 3
_MARK: Final = ".buildkit-exporter-run-"
_UNFINISHED: Final = ".tmp."
_ID: Final = "[0-9a-f]{32}"
_NAMES = re.compile(f"{re.escape(_MARK)}{_ID}|{re.escape(_UNFINISHED)}{_ID}\\.[0-9]+".encode())
_MARKS = re.compile(f"{re.escape(_MARK)}({_ID})".encode())
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Run:
    """An export into a directory; created by `begin`.

    Args:
        root: The open directory; the caller closes it.
        run_id: The ID.
        lock: The file descriptor that locks the mark; -1 if there is no mark.
    """

    def __init__(self, root: int, run_id: str, lock: int) -> None:
        self._root = root
        self._id = run_id
        self._lock = lock
        self._count = 0

    @classmethod
    def begin(cls, root: int) -> Run:
        """Remove what killed runs left below `root`, and mark it.

        If the mark cannot be created (in a directory that is not writable, but contains writable ones), the
        run continues without it.
        """
        _remove_dead(root)
        for _ in range(_ATTEMPTS):
            run_id = secrets.token_hex(16)
            mark = f"{_MARK}{run_id}".encode()
            try:
                os.mkdir(mark, 0o700, dir_fd=root)
            except OSError:
                break
            lock = _lock(mark, root)
            if lock >= 0:
                return cls(root, run_id, lock)
            # Another run removed the mark before we locked it, or the file system does not support locks.
            with suppress(OSError):
                os.rmdir(mark, dir_fd=root)
        return cls(root, secrets.token_hex(16), -1)

    def temporary_name(self) -> bytes:
        """A unique name for an unfinished file."""
        self._count += 1
        return f"{_UNFINISHED}{self._id}.{self._count}".encode()

    def end(self) -> None:
        """Remove the mark. There must not be any unfinished files left."""
        if self._lock >= 0:
            with suppress(OSError):
                os.rmdir(f"{_MARK}{self._id}".encode(), dir_fd=self._root)
            os.close(self._lock)
            self._lock = -1


def is_ours(name: bytes) -> bool:
    """Whether this is the name of a mark or of an unfinished file of any run."""
    return bool(_NAMES.fullmatch(name))


def _remove_dead(root: int) -> None:
    dead: dict[bytes, int] = {}
    try:
        with os.scandir(root) as entries:
            names = [os.fsencode(entry.name) for entry in entries]
        for name in names:
            match = _MARKS.fullmatch(name)
            if match and (lock := _lock(name, root)) >= 0:
                dead[match[1]] = lock
        if not dead:
            return
        prefixes = tuple(_UNFINISHED.encode() + run_id + b"." for run_id in dead)
        is_complete = _remove_unfinished(root, prefixes)
        for run_id in dead:
            if is_complete:  # otherwise, a later run will retry
                with suppress(OSError):
                    os.rmdir(_MARK.encode() + run_id, dir_fd=root)
    finally:
        for lock in dead.values():
            os.close(lock)


def _remove_unfinished(root: int, prefixes: tuple[bytes, ...]) -> bool:
    """Remove all files with these prefixes, at any depth; return whether that succeeded."""
    failures: list[OSError] = []
    for _, directories, files, parent in os.fwalk(
        b".", dir_fd=root, follow_symlinks=False, onerror=failures.append
    ):
        for name in [name for name in (*directories, *files) if name.startswith(prefixes)]:
            try:
                if name in directories:
                    directories.remove(name)
                    shutil.rmtree(name, dir_fd=parent)
                else:
                    os.unlink(name, dir_fd=parent)
            except OSError as error:
                failures.append(error)
    return not failures


def _lock(name: bytes, root: int) -> int:
    """Lock an existing mark; return -1 if another process holds it, or it is gone."""
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=root)
    except OSError:
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.lstat(name, dir_fd=root)):
            locked, descriptor = descriptor, -1
            return locked
    except OSError:
        return -1
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return -1
