"""Byte counts for people, as BuildKit prints them (``github.com/tonistiigi/units``, decimal units)."""

from __future__ import annotations

from exporter.progress.model import VertexStatus

_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB")


def format_bytes(count: int, precision: int = 2) -> str:
    """Format a number of bytes: ``123B``, ``1.23kB``, ``4.56MB``.

    Args:
        count: Bytes; may be negative.
        precision: Digits after the decimal point. Counts below 1000 have none.
    """
    magnitude = abs(count)
    if magnitude < 1000:
        return f"{count}B"
    exponent = 1
    while exponent < len(_UNITS) and magnitude >= 1000 ** (exponent + 1):
        exponent += 1
    return f"{count / 1000**exponent:.{precision}f}{_UNITS[exponent - 1]}"


def format_amount(status: VertexStatus, precision: int = 2) -> str:
    """Format a status's progress: ``1.20MB / 3.40MB``, or ``1.20MB`` without a total, or nothing."""
    if status.total:
        return f"{format_bytes(status.current, precision)} / {format_bytes(status.total, precision)}"
    return format_bytes(status.current, precision) if status.current else ""
