"""Which paths of a directory are needed to reach others through symbolic links (fsutil: ``FollowLinks``).

Everything here blocks.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from exporter.daemon.fsutil.patterns import clean_path, compile_pattern


def follow_links(root: Path, paths: Sequence[str]) -> list[str] | None:
    """Add the targets of symbolic links on the way to the paths.

    Args:
        root: The directory; links are resolved as if it were the root of the file system.
        paths: Paths in it, which may contain wildcards.

    Returns:
        All paths, sorted and without those inside of others; None if the root itself is one of them.
    """
    resolver = _Resolver(root)
    for path in paths:
        resolver.add(path)
    return without_nested(sorted(resolver.found))


def without_nested(paths: Sequence[str]) -> list[str] | None:
    """Remove paths inside the preceding one; None if one is the root itself."""
    kept: list[str] = []
    for path in paths:
        if path == ".":
            return None
        if not kept or not path.startswith(f"{kept[-1]}/"):
            kept.append(path)
    return kept


class _Resolver:
    def __init__(self, root: Path) -> None:
        self._root = root
        self.found: set[str] = set()

    def add(self, path: str) -> None:
        pending = [path]
        while pending:
            pending.extend(reversed(list(self._walk(_inside(pending.pop())))))

    def _walk(self, path: str) -> Iterator[str]:
        """Walk a path up to its first link, and yield the paths to continue with."""
        parts = path.split("/")
        for index in range(len(parts)):
            current, rest = "/".join(parts[: index + 1]), "/".join(parts[index + 1 :])
            targets = self._targets(current)
            if not rest or targets is not None:
                if current in self.found:
                    return
                self.found.add(current)
            if targets is not None:
                yield from (posixpath.join(target, rest) for target in targets)
                return

    def _targets(self, path: str) -> list[str] | None:
        """The targets of the links that match a path; None if there are none."""
        directory, name = posixpath.split(path)
        if not has_wildcards(name):
            return self._target(path)
        matches = compile_pattern(name)
        try:
            names = sorted((entry.name for entry in (self._root / directory).iterdir()), key=os.fsencode)
        except (FileNotFoundError, NotADirectoryError):
            return None
        targets = [self._target(posixpath.join(directory, each)) for each in names if matches(each)]
        return [target for group in targets for target in group or ()] or None

    def _target(self, path: str) -> list[str] | None:
        full = self._root / path
        try:
            if not stat.S_ISLNK(full.lstat().st_mode):
                return None
            link = os.readlink(full)  # noqa: PTH115 (a Path would normalize the target)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return [posixpath.join("/", posixpath.dirname(path), link)]


def has_wildcards(name: str) -> bool:
    """Whether a name has an unescaped wildcard."""
    position = 0
    while position < len(name):
        if name[position] == "\\":
            position += 1
        elif name[position] in "*?[":
            return True
        position += 1
    return False


def _inside(path: str) -> str:
    """Make a path relative to the root, without leaving it."""
    return clean_path(f"/{path}").removeprefix("/") or "."
