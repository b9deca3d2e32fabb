"""Walking a local directory for a daemon, in the order and with the attributes of fsutil.

Owners are omitted: files in an image belong to root unless the build says otherwise (BuildKit's clients send
    0
for both IDs).

Everything here blocks.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from exporter.daemon.fsutil.follow_links import follow_links, without_nested
from exporter.daemon.fsutil.patterns import Match, PatternMatcher
from exporter.errors import FailedPreconditionError
from exporter.exporters.files.entry import BytesContent, FileEntry
from exporter.layer.tree import Kind

_APPLE = b"com.apple."  # attributes that are only meaningful on macOS

_PIECE_BYTES = 512 << 10

_KINDS = {
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFBLK: Kind.BLOCK_DEVICE,
    stat.S_IFCHR: Kind.CHARACTER_DEVICE,
    stat.S_IFIFO: Kind.FIFO,
}


@dataclass(slots=True)
class _Directory:
    """A directory on the path to the walk's position."""

    path: str
    parent: _Directory | None = None
    include: Match | None = None
    exclude: Match | None = None
    is_told: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """The files that a daemon wants from a directory.

    Attributes:
        include: Patterns, one of which a path must match, if there are any.
        exclude: Patterns of files to exclude, and exceptions.
        follow: Paths to include, together with the targets of symbolic links on the way.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    follow: Sequence[str] = ()


@dataclass(slots=True)
class LocalWalk:
    """A walk through a directory.

    Attributes:
        root: The directory.
        selection: The files to include.
    """

    root: Path
    selection: Selection = field(default_factory=Selection)
    _first_names: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def entries(self) -> Iterator[FileEntry]:
        """Walk depth first; the names in a directory are in byte order.

        An unselected directory is included if something in it is selected. Files that vanish during the walk
        are skipped.

        Raises:
            InvalidArgumentError: a pattern is malformed.
            OSError: a file or directory cannot be read.
        """
        include, exclude = self._matchers()
        root = _Directory("", is_told=True)
        pending = [iter(self._list(root))]
        directories = [root]
        while pending:
            item = next(pending[-1], None)
            if item is None:
                pending.pop()
                directories.pop()
                continue
            parent = directories[-1]
            path = f"{parent.path}/{item.name}" if parent.path else item.name
            is_directory = item.is_dir(follow_symlinks=False)
            here = _Directory(path, parent)
            is_wanted = True
            if include is not None:
                here.include = include.match(path, parent.include)
                if not here.include.matched:
                    if is_directory and not include.can_match_below(path, exceptions=False):
                        continue
                    is_wanted = False
            if exclude is not None:
                here.exclude = exclude.match(path, parent.exclude)
                if here.exclude.matched:
                    if is_directory and not exclude.can_match_below(path, exceptions=True):
                        continue
                    is_wanted = False
            if is_wanted:
                try:
                    entry = self._entry(path)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                yield from self._untold(parent)
                here.is_told = True
                yield entry
            if is_directory:
                pending.append(iter(self._list(here)))
                directories.append(here)

    def _matchers(self) -> tuple[PatternMatcher | None, PatternMatcher | None]:
        includes: list[str] | None = list(self.selection.include)
        if self.selection.follow:
            targets = follow_links(self.root, self.selection.follow)
            if targets is not None:
                includes = without_nested([*self.selection.include, *targets])
        return (
            PatternMatcher(includes) if includes else None,
            PatternMatcher(self.selection.exclude) if self.selection.exclude else None,
        )

    def _untold(self, directory: _Directory | None) -> Iterator[FileEntry]:
        """Parent directories that have not been yielded yet, the outermost first."""
        missing = []
        while directory is not None and not directory.is_told:
            missing.append(directory)
            directory = directory.parent
        for one in reversed(missing):
            one.is_told = True
            yield self._entry(one.path)

    def _list(self, directory: _Directory) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.root / directory.path) as entries:
                return sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except (FileNotFoundError, NotADirectoryError):
            if directory.parent is None:
                raise
            return []
        except PermissionError:
            if directory.is_told:
                raise
            return []  # it is not selected

    def _entry(self, path: str) -> FileEntry:
        full = self.root / path
        info = full.lstat()
        # A socket becomes an empty file, since archives cannot contain sockets.
        kind = _KINDS.get(stat.S_IFMT(info.st_mode), Kind.FILE)
        is_device = kind in {Kind.BLOCK_DEVICE, Kind.CHARACTER_DEVICE}
        link = b""
        if kind is Kind.SYMLINK:
            link = os.fsencode(os.readlink(full))  # noqa: PTH115 (a Path would normalize the target)
        elif kind is not Kind.DIRECTORY and info.st_nlink > 1:
            # A file with several hard links is sent once; its other names become links to the first.
            key = info.st_dev, info.st_ino
            link = self._first_names.get(key, b"")
            self._first_names.setdefault(key, os.fsencode(path))
        return FileEntry(
            path=os.fsencode(path),
            kind=kind,
            mode=stat.S_IMODE(info.st_mode),
            mtime=info.st_mtime_ns,
            size=0 if kind is Kind.DIRECTORY else info.st_size,
            link=link,
            devmajor=os.major(info.st_rdev) if is_device else 0,
            devminor=os.minor(info.st_rdev) if is_device else 0,
            xattrs=_xattrs(full),
            content=_LocalContent(full) if stat.S_ISREG(info.st_mode) else BytesContent(b""),
        )


@dataclass(frozen=True, slots=True)
class _LocalContent:
    """The content of a local file, read on demand."""

    path: Path

    def pieces(self) -> Iterator[bytes]:
        """See `Content.pieces`. As upstream, a file that has vanished is empty.

        Raises:
            FailedPreconditionError: it is no longer a regular file.
            OSError: it cannot be read.
        """
        # In case the file was replaced: do not block on a pipe, and do not follow a link.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags)
        except FileNotFoundError:
            return
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FailedPreconditionError(f"{self.path} was replaced by something else while it was sent")
            while data := file.read(_PIECE_BYTES):
                yield data


def _xattrs(path: Path) -> dict[bytes, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise
    attributes = {}
    for name in names:
        key = os.fsencode(name)
        if not key.startswith(_APPLE):
            try:
                attributes[key] = os.getxattr(path, name, follow_symlinks=False)
            except OSError:  # removed in the meantime, or not readable
                continue
    return attributes
