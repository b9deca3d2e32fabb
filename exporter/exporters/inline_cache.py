"""The cache data that the daemon wants embedded in an image's config (``moby.buildkit.cache.v0``)."""

from __future__ import annotations

from exporter.source.types import BuildInfo

__all__ = ["find_inline_cache"]


def find_inline_cache(build: BuildInfo, key: str) -> bytes | None:
    """The data for one image; None if there is none to embed, which is not the same as empty data.

    The daemon's data is a result of its own, looked up as `Source.find_ref` looks up refs: a result that is
    not keyed answers to every key, and so does one with a single entry.

    Args:
        build: Says what data there is.
        key: A platform ID.
    """
    entries = build.inline_cache
    if "" in entries:
        return entries[""]
    if key in entries:
        return entries[key]
    return next(iter(entries.values())) if len(entries) == 1 else None
