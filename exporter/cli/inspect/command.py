"""The command ``inspect``."""

from __future__ import annotations

import asyncio
import json

from exporter.cli.commands.inspect import InspectArgs
from exporter.cli.failures import ExitCode
from exporter.cli.inspect.document import to_document
from exporter.cli.inspect.load import load_contents
from exporter.cli.inspect.select import select
from exporter.cli.inspect.table import render_contents
from exporter.cli.printing import output_width, print_tables
from exporter.content.layout import default_root_path
from exporter.errors import FailedPreconditionError, NotFoundError
from exporter.image import ImageError, Reference


def run_inspect(options: InspectArgs) -> int:
    """Show the images in a directory or archive.

    Raises:
        ExporterError, ImageError: it does not contain an image, or not the requested one.
    """
    if not options.path.exists():
        raise _not_here(str(options.path))
    contents = asyncio.run(load_contents(options.path))
    contents = select(contents, options.image, options.platform)
    if options.json:
        print(json.dumps(to_document(contents), indent=2, ensure_ascii=False))
    else:
        print_tables(*render_contents(contents, truncate=not options.no_trunc, width=output_width()))
    return ExitCode.OK


def _not_here(place: str) -> NotFoundError:
    """The error for a path that does not exist. The user may have meant the name of an image."""
    text = f"there is no file or directory {place}"
    try:
        Reference.parse(place)
    except ImageError:
        return NotFoundError(text)
    return NotFoundError(
        f"{text}; inspect does not look into registries and daemons. 'buildkit-exporter inspect "
        f"{_store()} {place}' shows an image in the embedded store ('buildkit-exporter images' lists them), "
        f"'buildkit-exporter verify {place}' checks one in a registry"
    )


def _store() -> str:
    """The path of the embedded store, for a command to copy; a placeholder if there is no home directory."""
    try:
        return str(default_root_path())
    except FailedPreconditionError:
        return "ROOT"
