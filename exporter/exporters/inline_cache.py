"""The cache data that the daemon wants to embed in an image's config (``moby.buildkit.cache.v0``)."""

from __future__ import annotations

from exporter.source.types import BuildInfo

__all__ = ["find_inline_cache"]


def find_inline_cache(build: BuildInfo, key: str) -> bytes | None:
    """The data for one image; None if there is none to embed, which is not the same as empty data.

    The lookup works like `Source.find_ref`: data that is not keyed, or has a single entry, matches any key.

    Args:
        build: Has the data.
        key: A platform ID.
    """
    entries = build.inline_cache
    if "" in entries:
        return entries[""]
    if key in entries:
        return entries[key]
    return next(iter(entries.values())) if len(entries) == 1 else None
