"""Progress of a build: reporting it, merging it, passing it on to slow readers, and showing it.

Messages are plain values here; protobuf is converted in `exporter.remotes.messages`. Nothing here knows
what the work is.
"""

from __future__ import annotations

from exporter.progress.display import ProgressMode, Renderer, display, open_renderer
from exporter.progress.merge import ProgressState
from exporter.progress.model import (
    ProgressGroup,
    SourceLines,
    StatusSink,
    StatusUpdate,
    Vertex,
    VertexLog,
    VertexStatus,
    VertexWarning,
)
from exporter.progress.producer import Status, VertexProgress, now, vertex
from exporter.progress.queue import CoalescingQueue

__all__ = [
    "CoalescingQueue",
    "ProgressGroup",
    "ProgressMode",
    "ProgressState",
    "Renderer",
    "SourceLines",
    "Status",
    "StatusSink",
    "StatusUpdate",
    "Vertex",
    "VertexLog",
    "VertexProgress",
    "VertexStatus",
    "VertexWarning",
    "display",
    "now",
    "open_renderer",
    "vertex",
]
