"""The commands with which ``debugfs`` makes the files of an image."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator

from exporter.errors import InvalidArgumentError
from exporter.exporters.filesystems.ext4_size import directory_blocks, entry_bytes
from exporter.exporters.filesystems.plan import SECOND
from exporter.layer.entry import FileEntry
from exporter.layer.tree import Kind

__all__ = ["Script"]

_TYPES = {
    Kind.FILE: 0o100000,
    Kind.DIRECTORY: 0o040000,
    Kind.SYMLINK: 0o120000,
    Kind.CHARACTER_DEVICE: 0o020000,
    Kind.BLOCK_DEVICE: 0o060000,
    Kind.FIFO: 0o010000,
}
_LOST_AND_FOUND = b"lost+found"
_MAX_LINE = 8191 if platform.libc_ver()[0] == "glibc" else 1023
"""Bytes of a command, with its line break. debugfs reads lines into a buffer of the C library's ``BUFSIZ``
bytes, and takes the rest of a longer line for a command of its own."""


class Script:
    """Commands in the order of the files.

    Args:
        entries: All files, to count hard links.
    """

    def __init__(self, entries: Iterable[FileEntry]) -> None:
        self._links: Counter[bytes] = Counter()
        self._linked: Counter[bytes] = Counter()
        names: Counter[bytes] = Counter()
        for entry in entries:
            folder, _, base = entry.path.rpartition(b"/")
            names[folder] += entry_bytes(base)
            if entry.is_hard_link:
                self._links[entry.link] += 1
                self._linked[folder] += 1
        # Only `ln` does not make room in its directory.
        self._rooms = {folder: directory_blocks(names[folder]) - 1 for folder in self._linked}
        self._lines: list[bytes] = []
        self._contents: list[tuple[str, Iterator[bytes]]] = []
        self._files = 0
        self._folder: bytes | None = None
        self._is_begun = False
        self.content_bytes = 0
        """The size of the contents since the last `take`."""
        self.command_bytes = 0
        """The size of the commands since the last `take`."""

    def add(self, entry: FileEntry) -> None:
        """Add the commands for a file.

        Raises:
            InvalidArgumentError: its name or target cannot be written.
        """
        if not self._is_begun:
            self._is_begun = True
            self._make_room(b"", b"/")
        folder, _, base = entry.path.rpartition(b"/")
        if folder != self._folder:
            self._command(b"cd", b"/" + folder)
            self._folder = folder
        path = b"/" + entry.path
        if entry.is_hard_link:
            self._command(b"ln", b"/" + entry.link, base)
            return
        self._make(entry, base)
        self._set_attributes(entry, path)
        if entry.kind is Kind.DIRECTORY:
            self._make_room(entry.path, path)

    def take_contents(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """The names and contents of files that the commands since the last call need."""
        contents, self._contents = self._contents, []
        return iter(contents)

    def take(self) -> bytes:
        """The commands since the last call."""
        lines, self._lines = self._lines, []
        self._folder, self.content_bytes, self.command_bytes = None, 0, 0
        return b"".join(lines)

    def _make(self, entry: FileEntry, base: bytes) -> None:
        match entry.kind:
            case Kind.FILE:
                name = self._content(entry.content.pieces(), entry.size)
                self._command(b"write", name, base)
            case Kind.DIRECTORY:
                if entry.path != _LOST_AND_FOUND:  # mke2fs has made it
                    self._command(b"mkdir", base)
            case Kind.SYMLINK:
                self._command(b"symlink", base, entry.link)
            case Kind.FIFO:
                self._command(b"mknod", base, b"p")
            case _:
                self._command(
                    b"mknod", base, b"c" if entry.kind is Kind.CHARACTER_DEVICE else b"b", b"0", b"0"
                )

    def _set_attributes(self, entry: FileEntry, path: bytes) -> None:
        if entry.kind in {Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE}:
            old, new = _device(entry.devmajor, entry.devminor)
            self._set(path, "block[0]", str(old))
            self._set(path, "block[1]", str(new))
        self._set(
            path, "mode", f"0{_TYPES[entry.kind] | (0o777 if entry.kind is Kind.SYMLINK else entry.mode):o}"
        )
        if entry.uid:
            self._set(path, "uid", str(entry.uid))
        if entry.gid:
            self._set(path, "gid", str(entry.gid))
        seconds, nanoseconds = divmod(entry.mtime, SECOND)
        self._set(path, "mtime", f"@{seconds & 0xFFFFFFFF}")
        epoch = (seconds + (1 << 31)) >> 32
        self._set(path, "mtime_extra", str(nanoseconds << 2 | epoch))
        if links := self._links[entry.path]:
            self._set(path, "links_count", str(links + 1))
        for key, value in sorted(entry.xattrs.items()):
            name = self._content(iter([value]), len(value))
            self._command(b"ea_set", b"-f", name, b"--", path, key)

    def _make_room(self, folder: bytes, path: bytes) -> None:
        for _ in range(self._rooms.get(folder, 0)):
            self._command(b"expand_dir", path)

    def _content(self, pieces: Iterator[bytes], size: int) -> bytes:
        name = f"content-{self._files}"
        self._files += 1
        self._contents.append((name, pieces))
        self.content_bytes += size
        return os.fsencode(name)

    def _set(self, path: bytes, field: str, value: str) -> None:
        self._command(b"set_inode_field", path, field.encode(), value.encode())

    def _command(self, *words: bytes) -> None:
        """Add a command. What would be read as another one never gets into the script."""
        line = b" ".join(map(_quoted, words)) + b"\n"
        if any(char in word for word in words for char in (b"\n", b"\r", b"\0")):
            problem = "a name, link or attribute with a line break"
        elif len(line) > _MAX_LINE:
            problem = "so long a path, link or attribute"
        else:
            self._lines.append(line)
            self.command_bytes += len(line)
            return
        longest = max(words, key=len)
        raise InvalidArgumentError(
            f"{longest[:200]!r}: debugfs cannot write {problem}: use format=squashfs or format=erofs"
        )


def _quoted(word: bytes) -> bytes:
    return b'"' + word.replace(b'"', b'""') + b'"'


def _device(major: int, minor: int) -> tuple[int, int]:
    """A device number as Linux writes it into the first two block numbers of an inode."""
    if major < 256 and minor < 256:
        return major << 8 | minor, 0
    return 0, (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12
