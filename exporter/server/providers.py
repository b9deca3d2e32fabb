"""Providers that a request's refs read their blobs from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from exporter.content.copy import closing_stream
from exporter.content.protocol import BlobInfo, Provider
from exporter.errors import NotFoundError

Place = Callable[[], Awaitable[Provider | None]]
"""Gives a provider when it is needed; None if there is none in this place."""


class FirstProvider:
    """Blobs from the first of several places that has them.

    Args:
        places: Asked in this order, and each only if those before it do not have the blob.
    """

    def __init__(self, *places: Place) -> None:
        self._places = places

    async def info(self, digest: str) -> BlobInfo:
        """See `Provider.info`."""
        async for provider in self._providers():
            try:
                return await provider.info(digest)
            except NotFoundError:
                continue
        raise _not_found(digest)

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
        raise _not_found(digest)

    async def _providers(self) -> AsyncIterator[Provider]:
        for place in self._places:
            provider = await place()
            if provider is not None:
                yield provider


class EmbeddedProvider:
    """Blobs that came in their descriptors.

    Args:
        blobs: By digest.
    """

    def __init__(self, blobs: Mapping[str, bytes]) -> None:
        self._blobs = blobs

    async def info(self, digest: str) -> BlobInfo:
        """See `Provider.info`."""
        return BlobInfo(digest, len(self._find(digest)))

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See `Provider.read`."""
        data = self._find(digest)
        yield data[offset:] if length is None else data[offset : offset + length]

    def _find(self, digest: str) -> bytes:
        try:
            return self._blobs[digest]
        except KeyError:
            raise _not_found(digest) from None


class CountingProvider:
    """A provider that tells how much is read from it.

    Args:
        provider: The provider.
        on_read: Told how many more bytes have been read.
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


def _not_found(digest: str) -> NotFoundError:
    return NotFoundError(f"blob {digest} is neither embedded, nor in the store, nor has anybody else got it")
