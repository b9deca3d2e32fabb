"""Which blobs running exports use, and which ones they have written: notes beside the blobs.

An export notes the digest of each blob before it relies on it. It holds a lock (``flock``) on its notes as
long as it runs. What is noted by an export that failed or was killed, and by no other, can be removed.
All calls block.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from exporter.content.lock import try_flock
from exporter.content.staging import StagedFile, Staging

_KIND = "lease"
_NAME = re.compile(_KIND + "-[0-9a-f]{32}")
_WRITTEN, _USED = "+", "="


class Journal:
    """The notes of one export.

    Args:
        staging: Has the file, among others.
    """

    def __init__(self, staging: Staging) -> None:
        self._file: StagedFile = staging.create(kind=_KIND)
        self._noted: set[str] = set()

    def note(self, digest: str, *, is_there: bool) -> None:
        """Note that the export uses a blob; if the blob is not there, that it is about to write it."""
        line = f"{_USED if is_there else _WRITTEN}{digest}\n"
        if line not in self._noted:
            self._noted.add(line)
            self._file.write(line.encode())

    def close(self, *, keep: bool) -> None:
        """End the export.

        Args:
            keep: Leave the notes to whoever removes what the export has written.
        """
        if keep and any(line.startswith(_WRITTEN) for line in self._noted):
            self._file.leave()
        else:
            self._file.discard()


@dataclass(frozen=True, slots=True)
class _Ended:
    """The notes of an export that has ended without an image."""

    path: Path
    written: frozenset[str]


class Journals:
    """The notes of all exports that use the blobs of a directory.

    Args:
        staging: Where they are.
    """

    def __init__(self, staging: Staging) -> None:
        self._staging = staging

    def in_use(self) -> set[str]:
        """The digests that running exports have noted."""
        with self._read() as (in_use, _):
            return in_use

    def has_ended(self) -> bool:
        """Whether there are notes of an export that has ended without an image."""
        with self._read() as (_, ended):
            return bool(ended)

    def collect(self, needed: Callable[[str], bool], remove: Callable[[str], None]) -> None:
        """Remove what exports have written that ended without an image, unless somebody needs it.

        No export must note anything meanwhile.

        Args:
            needed: Whether an image needs a blob.
            remove: Removes a blob.
        """
        with self._read() as (in_use, ended):
            for journal in ended:
                for digest in journal.written - in_use:
                    if not needed(digest):
                        remove(digest)
                # What others use may be without any image once they have ended, too.
                if not journal.written & in_use:
                    journal.path.unlink(missing_ok=True)
        self._staging.tidy()

    @contextmanager
    def _read(self) -> Iterator[tuple[set[str], list[_Ended]]]:
        in_use: set[str] = set()
        ended: list[_Ended] = []
        with ExitStack() as stack:
            for path in self._staging.files(_NAME):
                try:
                    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                except FileNotFoundError:
                    continue
                file = stack.enter_context(os.fdopen(fd, "rb"))
                is_ended = try_flock(fd)
                # A line without its end is about a blob that has not been written yet.
                lines = file.read().decode("ascii", "replace").split("\n")[:-1]
                if is_ended:
                    ended.append(_Ended(path, frozenset(line[1:] for line in lines if line[:1] == _WRITTEN)))
                else:
                    in_use.update(line[1:] for line in lines)
            yield in_use, ended
