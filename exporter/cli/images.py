"""The command ``images``."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from exporter.cli.commands.images import ImagesArgs
from exporter.cli.failures import ExitCode, UsageError
from exporter.cli.inspect.load import PlaceKind, kind_of, view_manifest, with_names
from exporter.cli.inspect.view import ImageView, LayerView, view_image
from exporter.cli.printing import UNKNOWN, output_width, print_tables, show_digest, show_moment
from exporter.cli.stores import naming_store
from exporter.content.copy import load_graph, read_blob
from exporter.content.images import StoredImage
from exporter.content.layout import OCILayout, default_root_path
from exporter.content.root import open_existing_root
from exporter.content.threads import run_in_thread
from exporter.errors import ExporterError, InvalidArgumentError, NotFoundError
from exporter.image import Descriptor, Time
from exporter.image.media_types import MANIFEST_TYPES
from exporter.progress.sanitize import clean
from exporter.progress.units import format_bytes

_DIGEST, _PLATFORMS, _SIZE = "DIGEST", "PLATFORMS", "SIZE"
_COLUMNS = ("NAME", _DIGEST, "IMAGE ID", _PLATFORMS, "CREATED", _SIZE)
_GAP = 2
_NO_NAME = "<none>"  # docker's word for it
_KINDS = {
    PlaceKind.LAYOUT: "an OCI layout",
    PlaceKind.SAVED_SOURCE: "a saved source",
    PlaceKind.FILE: "a file",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """An image in the store, or an index of several.

    Attributes:
        names: Its names; none for a dangling image.
        root: The manifest or index; None for an image of type ``moby``, which has only a config and layers.
        images: The images, one per platform.
        size: The total size of its blobs in bytes, each counted once.
        problem: Why it could not be read completely; empty if it could.
    """

    names: tuple[str, ...]
    root: Descriptor | None
    images: tuple[ImageView, ...] = ()
    size: int | None = None
    problem: str = ""

    @property
    def id(self) -> str:
        """The digest of the config; empty unless there is exactly one."""
        return self.images[0].config_digest if len(self.images) == 1 else ""

    @property
    def created(self) -> Time | None:
        """When the newest image was created."""
        times = [image.created for image in self.images if image.created is not None]
        return max(times, key=lambda time: time.unix_nano, default=None)

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms of all images, without duplicates."""
        return tuple(dict.fromkeys(image.platform.format_all() for image in self.images))


def run_images(options: ImagesArgs) -> int:
    """List the images in the embedded store.

    Raises:
        UsageError: the directory is not an image store.
        ExporterError: the store does not exist, or its index is damaged.
    """
    root: Path = options.root or default_root_path()
    # The default store does not exist before the first export; that is not an error.
    with naming_store(root):
        entries = asyncio.run(_load(root)) if options.root is not None or root.exists() else []
    if options.json:
        print(json.dumps([_to_dict(entry) for entry in entries], indent=2, ensure_ascii=False))
    else:
        table, width = _table(entries, truncate=not options.no_trunc, width=output_width())
        print_tables(table, least=width)
    for entry in entries:
        if entry.problem:
            which = ", ".join(entry.names) or (entry.root.digest if entry.root is not None else entry.id)
            print(
                f"warning: {clean(which)}: {clean(entry.problem)}\n"
                f"'buildkit-exporter verify {root}' shows all that is wrong",
                file=sys.stderr,
            )
    return ExitCode.OK


async def _load(root: Path) -> list[Entry]:
    await run_in_thread(_check_place, root)
    layout, images = await open_existing_root(root)
    entries = [
        await _load_root(layout, descriptor, names) for descriptor, names in with_names(await layout.index())
    ]
    entries.extend([await _load_image(layout, image) for image in await images.list()])
    return sorted(entries, key=lambda entry: (not entry.names, entry.names))


async def _load_root(layout: OCILayout, root: Descriptor, names: tuple[str, ...]) -> Entry:
    try:
        nodes = await load_graph(layout, [root])
        views = [
            await view_manifest(layout, node.descriptor, node.children, names)
            for node in nodes
            if node.descriptor.media_type in MANIFEST_TYPES
        ]
    except ExporterError as error:
        return Entry(names, root, problem=error.message)
    sizes = {node.descriptor.digest: node.descriptor.size for node in nodes}
    images = tuple(view for view in views if isinstance(view, ImageView))
    return Entry(names, root, images, sum(sizes.values()))


async def _load_image(layout: OCILayout, image: StoredImage) -> Entry:
    layers = [LayerView(layer.digest, "", layer.size, layer.media_type) for layer in image.layers]
    try:
        view = view_image(image.tags, None, image.id, await read_blob(layout, image.config), layers)
    except ExporterError as error:
        return Entry(image.tags, None, problem=error.message)
    sizes = {item.digest: item.size for item in (image.config, *image.layers)}
    return Entry(image.tags, None, (view,), sum(sizes.values()))


def _check_place(root: Path) -> None:
    """Reject a directory that is not an image store, and say what it is instead."""
    if not root.exists():
        raise NotFoundError(f"there is no image store {root}: the directory does not exist")
    try:
        kind = kind_of(root)
    except InvalidArgumentError:
        raise UsageError(
            f"{root} is not an image store: it has no file oci/oci-layout, which the first export with "
            "--root creates"
        ) from None
    if kind is not PlaceKind.ROOT:
        raise UsageError(
            f"{root} is {_KINDS[kind]} and not an image store; "
            f"'buildkit-exporter inspect {root}' shows what is in it"
        )


def _table(entries: Sequence[Entry], *, truncate: bool, width: int) -> tuple[Table, int]:
    """Create the table, and compute its minimum width.

    Text that people copy, such as names, stays on one line. If the terminal is too narrow, the digests are
    omitted, provided that each image has an ID (an index has none).
    """
    named = [(name, entry) for entry in entries for name in entry.names]
    unnamed = [(_NO_NAME, entry) for entry in entries if not entry.names]
    rows = [
        (
            clean(name),
            show_digest(entry.root.digest if entry.root is not None else "", truncate=truncate),
            show_digest(entry.id, truncate=truncate),
            ", ".join(entry.platforms) or UNKNOWN,
            show_moment(entry.created, truncate=truncate),
            format_bytes(entry.size) if entry.size is not None else UNKNOWN,
        )
        for name, entry in (*sorted(named, key=lambda row: row[0]), *unnamed)
    ]
    columns = {title: [row[number] for row in rows] for number, title in enumerate(_COLUMNS)}
    # Platforms may wrap, one per line.
    words = {**columns, _PLATFORMS: " ".join(columns[_PLATFORMS]).split()}
    least = {title: max(map(cell_len, [title, *texts])) for title, texts in words.items()}
    if (
        truncate
        and all(entry.id for entry in entries)
        and sum(least.values()) + _GAP * (len(least) - 1) > width
    ):
        del columns[_DIGEST], least[_DIGEST]
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for title in columns:
        table.add_column(
            title,
            no_wrap=title != _PLATFORMS,
            min_width=least[title],
            justify="right" if title == _SIZE else "left",
        )
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, cells))
    return table, sum(least.values()) + _GAP * (len(least) - 1)


def _to_dict(entry: Entry) -> dict[str, Any]:
    return {
        "names": list(entry.names),
        "digest": entry.root.digest if entry.root is not None else None,
        "mediaType": entry.root.media_type if entry.root is not None else None,
        "id": entry.id or None,
        "created": str(entry.created) if entry.created is not None else None,
        "size": entry.size,
        "platforms": [
            {
                "platform": image.platform.to_dict(),
                "manifest": image.manifest.digest if image.manifest is not None else None,
                "id": image.config_digest,
                "created": str(image.created) if image.created is not None else None,
            }
            for image in entry.images
        ],
        "problem": entry.problem or None,
    }
