"""Combining several providers."""

from __future__ import annotations

from collections.abc import AsyncIterator

from exporter.content.memory import MemoryStore
from exporter.content.protocol import BlobInfo, Provider


class MultiProvider:
    """A provider that delegates to others by digest (BuildKit: ``contentutil.MultiProvider``).

    Args:
        base: The fallback for digests that were not added; None for no fallback.
    """

    def __init__(self, base: Provider | None = None) -> None:
        self._base = MemoryStore() if base is None else base
        self._providers: dict[str, Provider] = {}

    def add(self, digest: str, provider: Provider) -> None:
        """Read one blob from `provider` from now on."""
        self._providers[digest] = provider

    async def info(self, digest: str) -> BlobInfo:
        """See `Provider.info`."""
        return await self._of(digest).info(digest)

    def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See `Provider.read`."""
        return self._of(digest).read(digest, offset=offset, length=length)

    def _of(self, digest: str) -> Provider:
        return self._providers.get(digest, self._base)
