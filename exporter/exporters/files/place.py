"""File operations that never leave a directory.

All operations are relative to open directories and do not follow links, because the existing contents are not
trusted. All calls block.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from exporter.exporters.files.entry import FileEntry
from exporter.layer.tree import Kind

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEVICES = {
    Kind.CHARACTER_DEVICE: stat.S_IFCHR,
    Kind.BLOCK_DEVICE: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
}


class DirectoryCursor:
    """A current directory below a root.

    A move opens only those directories that differ from the last path, so moving in the order of entries is
    cheap.

    Args:
        root: The open root; the caller closes it.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._open: list[tuple[bytes, int]] = []

    def move(self, folder: Sequence[bytes]) -> int:
        """Open a directory by its path components. It stays open until the next move.

        Raises:
            OSError: it does not exist, or one of the components is not a directory.
        """
        depth = 0
        while depth < min(len(folder), len(self._open)) and self._open[depth][0] == folder[depth]:
            depth += 1
        self._close_below(depth)
        for name in folder[depth:]:
            self._open.append((name, open_directory(name, self.directory)))
        return self.directory

    @property
    def directory(self) -> int:
        """The current directory."""
        return self._open[-1][1] if self._open else self._root

    def close(self) -> None:
        """Go back to the root."""
        self._close_below(0)

    def _close_below(self, depth: int) -> None:
        while len(self._open) > depth:
            os.close(self._open.pop()[1])


def open_directory(name: bytes, parent: int) -> int:
    """Open a directory in another one, without following a link."""
    return os.open(name, _DIRECTORY, dir_fd=parent)


def names_in(directory: int) -> list[bytes]:
    """The names in an open directory."""
    with os.scandir(directory) as found:
        return [os.fsencode(entry.name) for entry in found]


def make_directory(name: bytes, parent: int) -> None:
    """Ensure that there is a writable directory. Anything else with this name is removed."""
    mode = _mode_of(name, parent)
    if mode is not None and stat.S_ISDIR(mode):
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            with _path_of(name, parent) as path, suppress(PermissionError):
                Path(path).chmod(stat.S_IMODE(mode) | stat.S_IRWXU)
        return
    remove(name, parent)
    os.mkdir(name, stat.S_IRWXU, dir_fd=parent)


def make_special(entry: FileEntry, name: bytes, parent: int) -> None:
    """Create a symbolic link, a device or a pipe. The name must not exist."""
    if entry.kind is Kind.SYMLINK:
        os.symlink(entry.link, name, dir_fd=parent)
    else:
        device = os.makedev(entry.devmajor, entry.devminor)
        os.mknod(name, _DEVICES[entry.kind] | stat.S_IRUSR, device, dir_fd=parent)


def put(temporary: bytes, name: bytes, parent: int) -> None:
    """Rename a temporary file to its final name, replacing whatever has it."""
    mode = _mode_of(name, parent)
    if mode is not None and stat.S_ISDIR(mode):
        remove(name, parent)
    os.replace(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)


def remove(name: bytes, parent: int) -> None:
    """Remove a file, or a directory with its contents. It need not exist."""
    mode = _mode_of(name, parent)
    if mode is None:
        return
    if stat.S_ISDIR(mode):
        # With dir_fd, rmtree is safe against a directory being replaced by a link concurrently.
        shutil.rmtree(os.fsdecode(name), dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)


def set_attributes(entry: FileEntry, owner: tuple[int, int], target: int | str) -> None:
    """Set the attributes of a file or directory.

    As in fsutil, extended attributes that the file system or our privileges do not allow are skipped.

    Args:
        entry: Has the attributes.
        owner: User and group, instead of those of the entry.
        target: An open file, or a path.
    """
    os.chown(target, *owner)  # before the mode, whose set-ID bits it clears
    os.chmod(target, entry.mode)  # noqa: PTH101  # Path does not support file descriptors
    for key, value in entry.xattrs.items():
        with suppress(OSError):
            os.setxattr(target, key, value)
    os.utime(target, ns=(entry.mtime, entry.mtime))


def set_special_attributes(entry: FileEntry, owner: tuple[int, int], name: bytes, parent: int) -> None:
    """Like `set_attributes`, for what cannot be opened: links, devices and pipes."""
    if entry.kind is not Kind.SYMLINK:
        with _path_of(name, parent) as path:
            set_attributes(entry, owner, path)
        return
    os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
    for key, value in entry.xattrs.items():
        with suppress(OSError):
            os.setxattr(f"/proc/self/fd/{parent}/{os.fsdecode(name)}", key, value, follow_symlinks=False)
    os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Add to operating system errors which operation failed, and for which path of the tree."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        # Drop the error's own paths, which are relative to a directory or those of temporary files.
        raise OSError(error.errno, f"{what}: {error.strerror}") from error


@contextmanager
def _path_of(name: bytes, parent: int) -> Iterator[str]:
    """A path that is pinned to one file, without opening that file (a device) itself."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _mode_of(name: bytes, parent: int) -> int | None:
    """The mode of a file; None if it does not exist."""
    try:
        return os.lstat(name, dir_fd=parent).st_mode
    except FileNotFoundError:
        return None
