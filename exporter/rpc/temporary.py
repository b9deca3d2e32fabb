"""Private temporary directories, with cleanup after killed processes.

Each process holds a lock (``flock``) on its directory, which distinguishes stale directories from those in
use. The next process that creates such a directory removes stale ones.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "buildkit-exporter-"
_NAME = re.compile(_PREFIX + "[0-9a-f]{16}")
_ATTEMPTS = 100

_swept: set[Path] = set()


@contextmanager
def private_directory(parent: Path | None = None) -> Iterator[Path]:
    """A directory with access only for its owner, which is removed recursively when the block ends. Blocks.

    Args:
        parent: The parent directory; the default for temporary files if None.

    Raises:
        OSError: the directory cannot be created.
    """
    path, descriptor = make_private_directory(parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def make_private_directory(parent: Path | None = None) -> tuple[Path, int]:
    """Create a directory with access only for its owner, and lock it. Blocks.

    Args:
        parent: See `private_directory`.

    Returns:
        The directory, which the caller must remove, and the descriptor of the lock, to close after that.

    Raises:
        OSError: the directory cannot be created.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    if parent not in _swept:  # only once, because it may have many unrelated entries
        _swept.add(parent)
        _remove_dead(parent)
    for _ in range(_ATTEMPTS):
        path = parent / f"{_PREFIX}{secrets.token_hex(8)}"
        path.mkdir(0o700)
        descriptor = lock_directory(path, or_nothing=False)
        if descriptor is not None:
            return path, descriptor
    raise OSError(f"directories in {parent} vanish as soon as they have been made")


def lock_directory(path: Path, *, or_nothing: bool = True) -> int | None:
    """Lock an existing directory; None if it is locked by another process, or no longer exists.

    Args:
        path: The directory.
        or_nothing: Also return None if the file system does not support locks.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        except OSError:
            if or_nothing:
                return None
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            locked, descriptor = descriptor, -1
            return locked
    except OSError:
        return None
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return None


def _remove_dead(parent: Path) -> None:
    """Remove stale directories of this user."""
    with suppress(OSError):
        for entry in parent.iterdir():
            if not _NAME.fullmatch(entry.name) or entry.lstat().st_uid != os.getuid():
                continue
            descriptor = lock_directory(entry)
            if descriptor is not None:
                shutil.rmtree(entry, ignore_errors=True)
                os.close(descriptor)
