"""Journals of the blobs that exports use and write, stored next to the blobs.

An export records the digest of each blob before it relies on it, and holds a lock (``flock``) on its journal
as long as it runs. Blobs that only failed or killed exports have recorded can be removed. All calls block.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from exporter.content.lock import try_flock
from exporter.content.staging import StagedFile, Staging

_KIND = "lease"
_NAME = re.compile(_KIND + "-[0-9a-f]{32}")
_WRITTEN, _USED = "+", "="


class Journal:
    """The journal of one export. Made by `Journals.begin`.

    Args:
        file: The journal's file.
        on_closed: Called when the export has ended.
    """

    def __init__(self, file: StagedFile, on_closed: Callable[[], None]) -> None:
        self._file = file
        self._on_closed = on_closed
        self._mutex = threading.Lock()
        self._noted: dict[str, str] = {}

    def has_noted(self, digests: Iterable[str]) -> bool:
        """Whether all of these are recorded. Does not block."""
        return all(digest in self._noted for digest in digests)

    def note(self, digests: Iterable[str], *, is_there: bool) -> None:
        """Record that the export uses existing blobs, or is about to write missing ones."""
        mark = _USED if is_there else _WRITTEN
        with self._mutex:
            fresh = [digest for digest in digests if digest not in self._noted]
            if fresh:
                self._file.write("".join(f"{mark}{digest}\n" for digest in fresh).encode())
                self._noted.update(dict.fromkeys(fresh, mark))

    def close(self, *, keep: bool) -> None:
        """End the export.

        Args:
            keep: Leave the journal behind, for the removal of what the export has written.
        """
        try:
            if keep and _WRITTEN in self._noted.values():
                self._file.leave()
            else:
                self._file.discard()
        finally:
            self._on_closed()


@dataclass(frozen=True, slots=True)
class _Ended:
    """The journal of an export that has ended without an image."""

    path: Path
    written: frozenset[str]


class Journals:
    """The journals of all exports that use the blobs of a directory.

    Args:
        staging: The directory of the journals.
    """

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._own: set[Path] = set()

    def begin(self) -> Journal:
        """Begin the journal of an export in this process."""
        file = self._staging.create(kind=_KIND)
        self._own.add(file.path)
        return Journal(file, lambda: self._own.discard(file.path))

    def in_use(self) -> set[str]:
        """The digests that running exports have recorded."""
        with self._read() as (in_use, _):
            return in_use

    def has_ended(self) -> bool:
        """Whether there is a journal of an export that has ended without an image."""
        with self._read(skip=frozenset(self._own)) as (_, ended):
            return bool(ended)

    def collect(self, needed: Callable[[str], bool], remove: Callable[[str], None]) -> None:
        """Remove the blobs of exports that ended without an image, unless they are needed.

        The caller prevents exports from recording anything meanwhile.

        Args:
            needed: Tells whether an image needs a blob.
            remove: Removes a blob.
        """
        with self._read() as (in_use, ended):
            for journal in ended:
                for digest in journal.written - in_use:
                    if not needed(digest):
                        remove(digest)
                # Keep the journal if others use its blobs: they, too, may end without an image.
                if not journal.written & in_use:
                    journal.path.unlink(missing_ok=True)
        self._staging.tidy()

    @contextmanager
    def _read(self, skip: Collection[Path] = ()) -> Iterator[tuple[set[str], list[_Ended]]]:
        in_use: set[str] = set()
        ended: list[_Ended] = []
        with ExitStack() as stack:
            for path in self._staging.files(_NAME):
                if path in skip:
                    continue
                try:
                    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                except FileNotFoundError:
                    continue
                file = stack.enter_context(os.fdopen(fd, "rb"))
                is_ended = try_flock(fd)
                # An incomplete line belongs to a blob that has not been written yet.
                lines = file.read().decode("ascii", "replace").split("\n")[:-1]
                if is_ended:
                    ended.append(_Ended(path, frozenset(line[1:] for line in lines if line[:1] == _WRITTEN)))
                else:
                    in_use.update(line[1:] for line in lines)
            yield in_use, ended
