"""The command ``prune``."""

from __future__ import annotations

import asyncio
import time

from rich.table import Table

from exporter.cli.commands.prune import PruneArgs
from exporter.cli.failures import ExitCode
from exporter.cli.printing import print_tables
from exporter.cli.stores import naming_store
from exporter.content.layout import default_root_path
from exporter.content.root import prune_root
from exporter.errors import NotFoundError
from exporter.progress.units import format_bytes


def run_prune(options: PruneArgs) -> int:
    """Remove data that no image needs, and list it.

    Raises:
        ExporterError: the image store does not exist, or is damaged.
    """
    root = options.root or default_root_path()
    before = time.time() - options.keep_duration
    with naming_store(root):
        if options.root is None and not root.exists():
            raise NotFoundError(
                f"there is no image store {root}: nothing has been stored there yet; --root names another one"
            )
        removed = asyncio.run(prune_root(root, before=before, unnamed=options.all))
    if removed:
        table = Table("DIGEST", "SIZE", box=None, padding=(0, 2, 0, 0))
        for blob in sorted(removed, key=lambda blob: blob.digest):
            table.add_row(blob.digest, format_bytes(blob.size))
        print_tables(table, "")
    print(f"Total: {format_bytes(sum(blob.size for blob in removed))}")
    return ExitCode.OK
