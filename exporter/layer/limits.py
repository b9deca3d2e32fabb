"""How much of a layer is unpacked."""

from __future__ import annotations

MAX_CONTENT_BYTES = 128 << 30
"""Largest sum of the sizes of a ref's files, by default."""
