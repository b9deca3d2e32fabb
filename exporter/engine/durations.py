"""How long exports take, for the metrics of those who run them."""

from __future__ import annotations

__all__ = ["DURATION_BUCKETS"]

DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
"""Histogram buckets in seconds: a cached image takes tens of milliseconds, a large push takes minutes."""
