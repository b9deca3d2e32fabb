"""What is in an image's merged file system, for comparisons."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from exporter.images import Image
from exporter.layer.entry import FileEntry
from exporter.layer.tree import Kind

_NO_TIME = -62135596800 * 10**9
"""Of directories that no layer has, although it has something in them; in a tar this is 1970."""


class Described(NamedTuple):
    """What a layer can say about a file. `link` is the first name of a file with several, or a target."""

    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    link: bytes
    device: tuple[int, int]
    xattrs: dict[bytes, bytes]
    sha256: str


def described(entry: FileEntry) -> Described:
    content = hashlib.sha256()
    if entry.has_content:
        for piece in entry.content.pieces():
            content.update(piece)
    return Described(
        entry.kind,
        entry.mode,
        entry.uid,
        entry.gid,
        0 if entry.mtime == _NO_TIME else entry.mtime,
        entry.size,
        entry.link,
        (entry.devmajor, entry.devminor),
        dict(entry.xattrs),
        content.hexdigest(),
    )


async def tree_of(image: Image) -> dict[bytes, Described]:
    async with image.files() as files:
        return {entry.path: described(entry) for entry in files}
