"""Validating a sequence of entries.

Code that writes entries to disk relies on this check, because they may come from a faulty or malicious peer.
"""

from __future__ import annotations

from exporter.errors import InvalidArgumentError
from exporter.exporters.files.entry import FileEntry, shown
from exporter.layer.tree import Kind

__all__ = ["EntryOrder"]


class EntryOrder:
    """Checks a sequence of entries by fsutil's rules (``Validator`` and ``Hardlinks``)."""

    def __init__(self) -> None:
        # The directories on the path of the last entry, each with the last name in it.
        self._folders: list[tuple[list[bytes], bytes]] = [([], b"")]
        self._files: set[bytes] = set()

    def check(self, entry: FileEntry) -> list[bytes]:
        """Check the next entry, and return the components of its path.

        Raises:
            InvalidArgumentError: its path is invalid or outside of the tree, its directory is missing, it is
                out of order, or it is a hard link to something that is not a file in the tree.
        """
        parts = entry.path.split(b"/")
        if b"\x00" in entry.path or any(part in {b"", b".", b".."} for part in parts):
            raise InvalidArgumentError(f"unclean path {shown(entry.path)!r}: invalid argument")
        *folder, name = parts
        while len(self._folders) > 1 and self._folders[-1][0] != folder[: len(self._folders[-1][0])]:
            self._folders.pop()
        known, last = self._folders[-1]
        if known != folder or name <= last:
            previous = b"/".join([*known, last])
            raise InvalidArgumentError(f'changes out of order: "{shown(entry.path)}" "{shown(previous)}"')
        self._folders[-1] = (known, name)
        if entry.kind is Kind.DIRECTORY:
            self._folders.append((parts, b""))
        self._check_link(entry)
        return parts

    def _check_link(self, entry: FileEntry) -> None:
        if entry.kind in {Kind.DIRECTORY, Kind.SYMLINK}:
            return
        if not entry.link:
            self._files.add(entry.path)
        elif entry.link not in self._files:
            raise InvalidArgumentError(
                f'invalid link {shown(entry.path)} to unknown path: "{shown(entry.link)}"'
            )
