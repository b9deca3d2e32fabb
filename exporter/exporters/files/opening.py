"""Opening the files of a ref: as its owner sends them, or else from its layers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from exporter.content.threads import run_in_thread
from exporter.errors import ResourceExhaustedError
from exporter.exporters.files.entry import FileEntry, shown
from exporter.exporters.files.order import EntryOrder
from exporter.exporters.files.ref import ref_entries
from exporter.layer.files import LayerFiles
from exporter.source.files import FilesRef
from exporter.source.types import Ref

__all__ = ["Entries", "check_entries", "open_entries"]

Entries = Callable[[], Iterable[FileEntry]]
"""The files of a ref, in order; can be iterated over several times."""


@asynccontextmanager
async def open_entries(ref: Ref, scratch: Path, max_size: int) -> AsyncIterator[Entries]:
    """Open the files of a ref, until the block ends.

    Args:
        ref: The ref.
        scratch: A directory for a temporary file, which needs as much space as the files.
        max_size: Maximum total size of the files in bytes.

    Raises:
        NotFoundError: the ref or a layer no longer exists.
        DataLossError: a layer or a file does not have the announced content.
        InvalidArgumentError: the files are inconsistent.
        ResourceExhaustedError: the files exceed `max_size`; names the file.
    """
    if isinstance(ref, FilesRef):
        async with ref.files(scratch) as tree:
            if tree is not None:
                await run_in_thread(check_entries, tree.entries, max_size)
                await tree.fetch(tree.entries)
                yield lambda: tree.entries
                return
    with await LayerFiles.unpack(await ref.remote(), scratch=scratch, max_size=max_size) as files:
        yield partial(ref_entries, files)


def check_entries(entries: Sequence[FileEntry], max_size: int | None = None) -> None:
    """Check files that a peer has listed, before their contents are fetched. Blocks.

    Args:
        entries: The files.
        max_size: Maximum total size of the files in bytes; None for no limit.

    Raises:
        InvalidArgumentError: a path is invalid or out of order.
        ResourceExhaustedError: the files exceed `max_size`.
    """
    order, total = EntryOrder(), 0
    for entry in entries:
        order.check(entry)
        if entry.has_content:
            total += entry.size
            if max_size is not None and total > max_size:
                raise ResourceExhaustedError(
                    f"{shown(entry.path)} has {entry.size} bytes; with it, the files have more than "
                    f"the {max_size} bytes that are allowed (--max-content-bytes)"
                )
