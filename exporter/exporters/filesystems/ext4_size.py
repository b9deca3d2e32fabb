"""How large an ext4 has to be for certain files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from exporter.layer.entry import FileEntry
from exporter.layer.tree import Kind

__all__ = ["Needs", "directory_blocks", "entry_bytes"]

BLOCK = 4096
_MIB = 1 << 20
_INODE_BYTES = 256
_SYSTEM_INODES = 16
_SHORT_LINK = 60
"""Targets of fewer bytes are in the inode."""

_FULL_ENTRY = 264
_JOURNALS_MIB = ((128, 4), (1024, 16), (8192, 64))
"""The size of the journal for file systems of up to so many MiB."""

_LARGEST_JOURNAL_MIB = 128


def entry_bytes(name: bytes) -> int:
    """What a name takes in its directory."""
    return 8 + (len(name) + 3 & ~3)


def directory_blocks(names: int) -> int:
    """How many blocks names of so many bytes need at most, with unused ends of blocks."""
    return 1 + (names + 24) // (BLOCK - _FULL_ENTRY)


@dataclass(frozen=True, slots=True)
class Needs:
    """What files need.

    Attributes:
        blocks: Blocks for contents and directories.
        inodes: Inodes.
    """

    blocks: int
    inodes: int

    @classmethod
    def of(cls, entries: Iterable[FileEntry]) -> Needs:
        """Count what files need. Reads contents, because pieces without data take no space."""
        blocks, inodes = 0, _SYSTEM_INODES
        names: Counter[bytes] = Counter({b"": 0})
        for entry in entries:
            folder, _, base = entry.path.rpartition(b"/")
            names[folder] += entry_bytes(base)
            if entry.is_hard_link:
                continue
            inodes += 1
            blocks += bool(entry.xattrs)
            if entry.kind is Kind.DIRECTORY:
                names[entry.path] += 0
            elif entry.kind is Kind.SYMLINK:
                blocks += len(entry.link) >= _SHORT_LINK
            elif entry.has_content:
                blocks += _content_blocks(entry)
        blocks += sum(directory_blocks(size) for size in names.values())
        return cls(blocks, inodes)

    @property
    def _data_mib(self) -> int:
        table = -(-self.inodes * _INODE_BYTES // BLOCK)
        return -(-(self.blocks + table) * BLOCK // _MIB)

    @property
    def journal_mib(self) -> int:
        """The size of the journal."""
        for limit, size in _JOURNALS_MIB:
            if self._data_mib < limit:
                return size
        return _LARGEST_JOURNAL_MIB

    @property
    def least_bytes(self) -> int:
        """The size of a file system that has room for the files, and hardly more."""
        data = self._data_mib
        return (data + data // 50 + self.journal_mib + 2) * _MIB

    @property
    def comfortable_bytes(self) -> int:
        """The size of a file system with some free space."""
        return self.least_bytes + (self._data_mib // 10 + 4) * _MIB


def _content_blocks(entry: FileEntry) -> int:
    blocks, runs, is_hole = 0, 0, True
    for data in entry.content.pieces():
        was_hole, is_hole = is_hole, data.count(0) == len(data)
        if not is_hole:
            blocks += -(-len(data) // BLOCK)
            runs += was_hole
    # The first extents are in the inode; a block has room for 340.
    return blocks + (1 + runs // 300 if runs > 4 or blocks > 1 << 15 else 0)
