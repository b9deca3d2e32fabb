"""Working on files below a directory without ever leaving it.

Everything is done relative to open directories, and no link is followed: what is in the directory already may
have been put there by anybody. All calls block.
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
    """An open directory below a root, which moves to others.

    Moving costs what the way is long, so it is cheap in the order of entries.

    Args:
        root: The root, open; not closed here.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._open: list[tuple[bytes, int]] = []

    def move(self, folder: Sequence[bytes]) -> int:
        """Open a directory, by the names that lead to it. It stays open until the cursor moves on.

        Raises:
            OSError: it is not there, or one of the names is not a directory.
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
        """Where the cursor is."""
        return self._open[-1][1] if self._open else self._root

    def close(self) -> None:
        """Go back to the root."""
        self._close_below(0)

    def _close_below(self, depth: int) -> None:
        while len(self._open) > depth:
            os.close(self._open.pop()[1])


def open_directory(name: bytes, parent: int) -> int:
    """Open a directory in another one, not through a link."""
    return os.open(name, _DIRECTORY, dir_fd=parent)


def names_in(directory: int) -> list[bytes]:
    """What is in an open directory."""
    with os.scandir(directory) as found:
        return [os.fsencode(entry.name) for entry in found]


def make_directory(name: bytes, parent: int) -> None:
    """Have a directory there that we can write to; anything else that is there is removed."""
    mode = _mode_of(name, parent)
    if mode is not None and stat.S_ISDIR(mode):
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            with _path_of(name, parent) as path, suppress(PermissionError):
                Path(path).chmod(stat.S_IMODE(mode) | stat.S_IRWXU)
        return
    remove(name, parent)
    os.mkdir(name, stat.S_IRWXU, dir_fd=parent)


def make_special(entry: FileEntry, name: bytes, parent: int) -> None:
    """Make a symbolic link, a device or a pipe, where there is nothing."""
    if entry.kind is Kind.SYMLINK:
        os.symlink(entry.link, name, dir_fd=parent)
    else:
        device = os.makedev(entry.devmajor, entry.devminor)
        os.mknod(name, _DEVICES[entry.kind] | stat.S_IRUSR, device, dir_fd=parent)


def put(temporary: bytes, name: bytes, parent: int) -> None:
    """Give what was made under another name its own, in place of whatever has that."""
    mode = _mode_of(name, parent)
    if mode is not None and stat.S_ISDIR(mode):
        remove(name, parent)
    os.replace(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)


def remove(name: bytes, parent: int) -> None:
    """Remove whatever is there, with all that is in it. A missing file is fine."""
    mode = _mode_of(name, parent)
    if mode is None:
        return
    if stat.S_ISDIR(mode):
        # By way of file descriptors, so that links swapped in meanwhile lead nowhere.
        shutil.rmtree(os.fsdecode(name), dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)


def set_attributes(entry: FileEntry, owner: tuple[int, int], target: int | str) -> None:
    """Give a file or directory its attributes.

    Extended attributes that the file system, or our privileges, do not allow are left out, as by fsutil.

    Args:
        entry: Has the attributes.
        owner: User and group, in place of those of the entry.
        target: An open file, or a path.
    """
    os.chown(target, *owner)  # before the mode, whose set-ID bits it clears
    os.chmod(target, entry.mode)  # noqa: PTH101  # Path has nothing for open files
    for key, value in entry.xattrs.items():
        with suppress(OSError):
            os.setxattr(target, key, value)
    os.utime(target, ns=(entry.mtime, entry.mtime))


def set_special_attributes(entry: FileEntry, owner: tuple[int, int], name: bytes, parent: int) -> None:
    """`set_attributes` for what cannot be opened: links, devices and pipes."""
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
    """Say in errors of the operating system what was being done, and to which path of the tree."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        # Without paths: they are relative to a directory, or those of temporary files.
        raise OSError(error.errno, f"{what}: {error.strerror}") from error


@contextmanager
def _path_of(name: bytes, parent: int) -> Iterator[str]:
    """A path that leads to a file that must not be opened (a device), and to no other."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _mode_of(name: bytes, parent: int) -> int | None:
    """The mode of what is there; None if there is nothing."""
    try:
        return os.lstat(name, dir_fd=parent).st_mode
    except FileNotFoundError:
        return None
