"""Limits for unpacking layers: a layer of a few KiB can claim a sparse file of many TiB."""

from __future__ import annotations

from exporter.errors import ResourceExhaustedError

MAX_CONTENT_BYTES = 128 << 30
"""Default maximum for the total size of a ref's files."""


def check_content(name: bytes, size: int, total: int, limit: int = MAX_CONTENT_BYTES, hint: str = "") -> None:
    """Reject a file that is too large before its first byte is unpacked.

    Args:
        name: The file's name.
        size: Its size in bytes, including holes.
        total: The total size of all files so far, including this one.
        limit: The maximum total size.
        hint: How to raise the limit.

    Raises:
        ResourceExhaustedError: `total` exceeds `limit`.
    """
    if total > limit:
        raise ResourceExhaustedError(
            f"{name.decode('utf-8', 'backslashreplace')} has {size} bytes; with it, the files of the layers "
            f"have more than the {limit} bytes that are allowed{hint}"
        )
