"""Limits for unpacking layers."""

from __future__ import annotations

MAX_CONTENT_BYTES = 128 << 30
"""Default maximum for the total size of a ref's files."""
