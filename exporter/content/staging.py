"""Files in the making: written beside their destination, and put there whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from exporter.content.lock import is_at, try_flock
from exporter.errors import FailedPreconditionError, naming

_ATTEMPTS = 1000
_NAME = re.compile(r"staged-[0-9a-f]{32}")


class Staging:
    """A directory for files in the making.

    It must be on the file system of the files' destinations. It exists only while there is a file in it, so
    that other programs that look at the destinations' tree are not bothered. Each file is locked for as long
    as its writer lives: what is left by a process that was killed can be told from the work of another, and
    is removed.

    All calls block.

    Args:
        directory: The directory.
        subject: What errors of the operating system name, since nobody knows of this directory:
            the file in the making, or else where the directory is.
    """

    def __init__(self, directory: Path, subject: Path | None = None) -> None:
        self.directory = directory
        self.subject = subject or directory.parent

    def create(self, *, mode: int = 0o644) -> StagedFile:
        """Open a new file. Its permissions are `mode` less the umask; we can write to it all the same.

        Raises:
            OSError: it cannot be made.
        """
        with naming(self.subject, instead=True):
            return self._create(mode)

    def _create(self, mode: int) -> StagedFile:
        for _ in range(_ATTEMPTS):
            path = self.directory / f"staged-{secrets.token_hex(16)}"
            try:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            except FileNotFoundError:
                # Not made yet, or removed by the owner of what was the last file in it.
                with suppress(FileExistsError):
                    self.directory.mkdir()
                continue
            # Between these two calls somebody else's `remove_stale` may take the file for an abandoned one.
            if try_flock(fd) and is_at(fd, path):
                return StagedFile(self, fd, path)
            os.close(fd)
        raise FailedPreconditionError(f"{self.directory} is no directory in which files could be made")

    def remove_stale(self) -> None:
        """Remove what writers left that are no more. Files of others in the directory are left alone."""
        for path in self._files():
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

    def _files(self) -> list[Path]:
        try:
            return [path for path in self.directory.iterdir() if _NAME.fullmatch(path.name)]
        except FileNotFoundError:
            return []


class StagedFile:
    """A file in the making; made by `Staging.create`. All calls block."""

    def __init__(self, staging: Staging, fd: int, path: Path) -> None:
        self._staging = staging
        self._fd: int | None = fd
        self._path = path

    def write(self, data: bytes) -> None:
        """Append `data`."""
        assert self._fd is not None, "the file was published or discarded"
        view = memoryview(data)
        with naming(self._staging.subject):
            while view:
                view = view[os.write(self._fd, view) :]

    def publish(self, destination: Path) -> None:
        """Move the file to `destination`, in place of what is there, safe from a crash of the machine."""
        assert self._fd is not None, "the file was published or discarded"
        with naming(destination, instead=True):
            os.fsync(self._fd)
            self._path.rename(destination)
        self._close()
        sync_directory(destination.parent)

    def discard(self) -> None:
        """Remove the file, if it was not published."""
        if self._fd is not None:
            self._path.unlink(missing_ok=True)
            self._close()

    def _close(self) -> None:
        assert self._fd is not None
        os.close(self._fd)
        self._fd = None
        self._staging.tidy()


def replace_file(staging: Staging, destination: Path, data: bytes) -> None:
    """Give a file new contents at one stroke: readers see the old or the new ones. Blocks."""
    staged = staging.create()
    try:
        staged.write(data)
        staged.publish(destination)
    finally:
        staged.discard()


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a crash of the machine. Blocks."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
