"""gRPC targets."""

from __future__ import annotations

from urllib.parse import quote

__all__ = ["unix_target"]


def unix_target(path: str) -> str:
    """The target for a Unix socket."""
    return f"unix:{quote(path)}"  # gRPC reads it as a URI
