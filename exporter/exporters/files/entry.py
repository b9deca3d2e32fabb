"""Files in the output of ``tar`` and ``local``; see `exporter.layer.entry`."""

from __future__ import annotations

from exporter.layer.entry import BytesContent, Content, FileEntry

__all__ = ["BytesContent", "Content", "FileEntry"]


def shown(path: bytes) -> str:
    """A path as text, for messages."""
    return path.decode("utf-8", "backslashreplace")
