"""Combining several providers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from exporter.content.copy import closing_stream
from exporter.content.memory import MemoryStore
from exporter.content.protocol import BlobInfo, Provider
from exporter.errors import NotFoundError

Place = Callable[[], Awaitable[Provider | None]]
"""Returns a provider on demand; None if this place has none."""


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


class FirstProvider:
    """A provider that reads each blob from the first of several places that has it.

    Args:
        places: The places, in order. Each is used only if those before it do not have the blob.
        where: A description of all places, for errors.
    """

    def __init__(self, *places: Place, where: str = "any place") -> None:
        self._places = places
        self._where = where

    async def info(self, digest: str) -> BlobInfo:
        """See `Provider.info`."""
        async for provider in self._providers():
            try:
                return await provider.info(digest)
            except NotFoundError:
                continue
        raise self._not_found(digest)

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See `Provider.read`."""
        async for provider in self._providers():
            async with closing_stream(provider.read(digest, offset=offset, length=length)) as pieces:
                try:
                    first = await anext(pieces, None)
                except NotFoundError:
                    continue
                if first is not None:
                    yield first
                async for piece in pieces:
                    yield piece
                return
        raise self._not_found(digest)

    async def _providers(self) -> AsyncIterator[Provider]:
        for place in self._places:
            provider = await place()
            if provider is not None:
                yield provider

    def _not_found(self, digest: str) -> NotFoundError:
        return NotFoundError(f"blob {digest} not found in {self._where}")


class CountingProvider:
    """A provider that reports how much is read from it.

    Args:
        provider: The provider.
        on_read: Called with the number of additional bytes read.
    """

    def __init__(self, provider: Provider, on_read: Callable[[int], None]) -> None:
        self._provider = provider
        self._on_read = on_read

    async def info(self, digest: str) -> BlobInfo:
        """See `Provider.info`."""
        return await self._provider.info(digest)

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See `Provider.read`."""
        async with closing_stream(self._provider.read(digest, offset=offset, length=length)) as pieces:
            async for piece in pieces:
                self._on_read(len(piece))
                yield piece
