"""Writing files atomically: they are staged near their destination and renamed when complete."""

from __future__ import annotations

import errno
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from exporter.content.lock import is_at, try_flock
from exporter.content.writeback import STEP, start_writing
from exporter.errors import FailedPreconditionError, naming

NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP})
"""The errors of `os.link` on or between file systems that do not support it."""

_ATTEMPTS = 1000
_KIND = "staged"
_NAME = re.compile(_KIND + "-[0-9a-f]{32}")


class Staging:
    """A directory for unfinished files.

    It must be on the same file system as their destinations. It exists only while there is a file in it, so
    that it does not disturb other programs. Each file is locked as long as its writer lives, which
    distinguishes the leftovers of a killed process, to be removed, from a concurrent write.

    All calls block.

    Args:
        directory: The directory.
        subject: The path to show in operating system errors instead of this internal directory, such as
            the final file. By default, the directory's parent.
    """

    def __init__(self, directory: Path, subject: Path | None = None) -> None:
        self.directory = directory
        self.subject = subject or directory.parent

    def create(self, *, mode: int = 0o644, kind: str = _KIND) -> StagedFile:
        """Create a file with permissions `mode` (minus the umask), open for writing even if read-only.

        Args:
            mode: The permissions.
            kind: The prefix of its name. `remove_stale` leaves files of other kinds alone.

        Raises:
            OSError: it cannot be created.
        """
        with naming(self.subject, instead=True):
            return self._create(mode, kind)

    def _create(self, mode: int, kind: str) -> StagedFile:
        for _ in range(_ATTEMPTS):
            path = self.directory / f"{kind}-{secrets.token_hex(16)}"
            try:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            except FileNotFoundError:
                # The directory does not exist yet, or the writer of the last file in it has removed it.
                with suppress(FileExistsError):
                    self.directory.mkdir()
                continue
            # Before we hold the lock, another process's `remove_stale` may take the file for a leftover.
            if try_flock(fd) and is_at(fd, path):
                return StagedFile(self, fd, path)
            os.close(fd)
        raise FailedPreconditionError(f"cannot create files in {self.directory}")

    def remove_stale(self) -> None:
        """Remove the files of writers that no longer run. Files of other programs are left alone."""
        for path in self.files(_NAME):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
            try:
                if try_flock(fd):
                    path.unlink(missing_ok=True)
            finally:
                os.close(fd)
        self.tidy()

    def tidy(self) -> None:
        """Remove the directory if it is empty."""
        try:
            self.directory.rmdir()
        except OSError:
            return

    def files(self, name: re.Pattern[str]) -> list[Path]:
        """The files with matching names."""
        try:
            return [path for path in self.directory.iterdir() if name.fullmatch(path.name)]
        except FileNotFoundError:
            return []


class StagedFile:
    """An unfinished file; created by `Staging.create`. All calls block."""

    def __init__(self, staging: Staging, fd: int, path: Path) -> None:
        self._staging = staging
        self._fd: int | None = fd
        self._path = path
        self._written = 0
        self._started = 0

    @property
    def path(self) -> Path:
        """Where it is before it is published."""
        return self._path

    def write(self, data: bytes) -> None:
        """Append `data`."""
        assert self._fd is not None, "the file was published or discarded"
        view = memoryview(data)
        with naming(self._staging.subject):
            while view:
                count = os.write(self._fd, view)
                view = view[count:]
                self._written += count
        if self._written - self._started >= STEP:
            start_writing(self._fd, self._started, self._written - self._started)
            self._started = self._written

    def publish(self, destination: Path) -> None:
        """Atomically move the file to `destination`, replacing what is there, and sync it to disk."""
        assert self._fd is not None, "the file was published or discarded"
        with naming(destination, instead=True):
            os.fsync(self._fd)
            self._path.rename(destination)
        self._close()
        sync_directory(destination.parent)

    def publish_new(self, destination: Path) -> None:
        """Like `publish`, but keep an existing file at `destination`."""
        assert self._fd is not None, "the file was published or discarded"
        with naming(destination, instead=True):
            os.fsync(self._fd)
            try:
                os.link(self._path, destination)
            except FileExistsError:
                pass
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                if not destination.exists():  # the best effort on such a file system
                    self._path.rename(destination)
        self.discard()
        sync_directory(destination.parent)

    def discard(self) -> None:
        """Remove the file unless it was published."""
        if self._fd is not None:
            self._path.unlink(missing_ok=True)
            self._close()

    def leave(self) -> None:
        """Leave the file where it is, unlocked."""
        if self._fd is not None:
            self._close()

    def _close(self) -> None:
        assert self._fd is not None
        os.close(self._fd)
        self._fd = None
        self._staging.tidy()


def replace_file(staging: Staging, destination: Path, data: bytes) -> None:
    """Atomically replace a file's contents: readers see either the old or the new ones. Blocks."""
    staged = staging.create()
    try:
        staged.write(data)
        staged.publish(destination)
    finally:
        staged.discard()


def sync_directory(path: Path) -> None:
    """Sync the entries of a directory to disk. Blocks."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
