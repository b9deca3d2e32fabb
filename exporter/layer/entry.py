"""Files with their paths; see `exporter.source.files`."""

from __future__ import annotations

from exporter.source.files import BytesContent, Content, FileEntry, shown

__all__ = ["BytesContent", "Content", "FileEntry", "shown"]
