"""Merging the files of several platforms or sources into one tree."""

from __future__ import annotations

import heapq
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from exporter.errors import InvalidArgumentError
from exporter.exporters.files.entry import FileEntry, shown
from exporter.image.options.attributes import PLATFORM_SPLIT
from exporter.layer.tree import Kind

__all__ = ["check_overlaps", "in_directories", "merged"]


def merged(*trees: Iterable[FileEntry]) -> Iterator[FileEntry]:
    """Merge trees. If several have the same path, the last tree's entry wins."""
    previous: FileEntry | None = None
    for entry in heapq.merge(*trees, key=_key):
        # Entries with the same path arrive in the order of their trees.
        if previous is not None and entry.path != previous.path:
            yield previous
        previous = entry
    if previous is not None:
        yield previous


def in_directories(directories: Sequence[tuple[FileEntry, Iterable[FileEntry]]]) -> Iterator[FileEntry]:
    """Put each of several trees below its own directory (fsutil: ``SubDirFS``).

    Absolute link targets become relative to that directory.

    Args:
        directories: The directories, each with its tree.

    Raises:
        InvalidArgumentError: a name is empty, malformed or a duplicate; with BuildKit's text.
    """
    ordered = sorted(directories, key=lambda directory: directory[0].path)
    names = [directory.path for directory, _ in ordered]
    for position, name in enumerate(names):
        if b"/" in name or name in {b"", b".", b".."}:
            raise InvalidArgumentError(f"invalid path {shown(name)}: is a directory", field="source.refs")
        if name in names[:position]:
            raise InvalidArgumentError(f"duplicate path {shown(name)}: file exists", field="source.refs")
    return _in_directories(ordered)


def _in_directories(directories: Sequence[tuple[FileEntry, Iterable[FileEntry]]]) -> Iterator[FileEntry]:
    for directory, entries in directories:
        yield directory
        for entry in entries:
            yield replace(
                entry, path=directory.path + b"/" + entry.path, link=_moved_link(entry, directory.path)
            )


def _moved_link(entry: FileEntry, directory: bytes) -> bytes:
    if entry.is_hard_link:
        return directory + b"/" + entry.link
    if entry.link.startswith(b"/"):
        # Cleaned, as by Go's path.Join.
        return posixpath.normpath(b"/" + directory + entry.link)
    return entry.link


def check_overlaps(trees: Mapping[str, Iterable[FileEntry]]) -> None:
    """Check that trees can share a directory: they must not have common paths, except for directories.

    Args:
        trees: The trees by platform ID.

    Raises:
        InvalidArgumentError: two trees have the same path; with BuildKit's text.
    """
    seen: dict[bytes, tuple[str, bool]] = {}
    for platform_id, entries in trees.items():
        for entry in entries:
            is_directory = entry.kind is Kind.DIRECTORY
            other, was_directory = seen.setdefault(entry.path, (platform_id, is_directory))
            if other != platform_id and not (is_directory and was_directory):
                raise InvalidArgumentError(
                    f"cannot overwrite {shown(entry.path)} from {other} with {platform_id} "
                    "when split option is disabled",
                    field=f"attrs[{PLATFORM_SPLIT}]",
                )


def _key(entry: FileEntry) -> bytes:
    return entry.key
