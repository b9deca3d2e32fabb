from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from exporter.content.memory import MemoryStore
from exporter.content.protocol import BlobInfo, Provider
from exporter.errors import NotFoundError, UnavailableError
from exporter.image import digest_bytes
from exporter.server.providers import CountingProvider, EmbeddedProvider, FirstProvider, Place

ONE, TWO = b"one", b"two"


def place(provider: Provider | None, asked: list[str] | None = None, name: str = "") -> Place:
    async def give() -> Provider | None:
        if asked is not None:
            asked.append(name)
        return provider

    return give


async def read(provider: Provider, digest: str, **part: int) -> bytes:
    return b"".join([piece async for piece in provider.read(digest, **part)])


async def test_the_first_place_that_has_a_blob_gives_it() -> None:
    asked: list[str] = []
    provider = FirstProvider(
        place(MemoryStore(ONE), asked, "first"),
        place(None, asked, "second"),
        place(MemoryStore(ONE, TWO), asked, "third"),
    )
    assert await read(provider, digest_bytes(ONE)) == ONE
    assert asked == ["first"], "the others are not even looked for"
    assert await read(provider, digest_bytes(TWO), offset=1, length=1) == b"w"
    assert asked == ["first", "first", "second", "third"]
    assert await provider.info(digest_bytes(TWO)) == BlobInfo(digest_bytes(TWO), 3)


async def test_nobody_has_it() -> None:
    provider = FirstProvider(place(MemoryStore()), place(None))
    with pytest.raises(NotFoundError):
        await provider.info(digest_bytes(ONE))
    with pytest.raises(NotFoundError):
        await read(provider, digest_bytes(ONE))


async def test_other_failures_are_not_taken_for_absence() -> None:
    class Broken(MemoryStore):
        async def read(
            self, digest: str, *, offset: int = 0, length: int | None = None
        ) -> AsyncIterator[bytes]:
            yield b"o"
            raise UnavailableError("gone")

    provider = FirstProvider(place(Broken()), place(MemoryStore(ONE)))
    with pytest.raises(UnavailableError):
        await read(provider, digest_bytes(ONE))


async def test_an_empty_blob_is_a_blob() -> None:
    provider = FirstProvider(place(MemoryStore(b"")), place(MemoryStore()))
    assert await read(provider, digest_bytes(b"")) == b""


async def test_embedded_blobs() -> None:
    provider = EmbeddedProvider({"d": b"0123"})
    assert await provider.info("d") == BlobInfo("d", 4)
    assert await read(provider, "d") == b"0123"
    assert await read(provider, "d", offset=1) == b"123"
    assert await read(provider, "d", offset=1, length=2) == b"12"
    with pytest.raises(NotFoundError):
        await provider.info("e")


async def test_counting() -> None:
    counted: list[int] = []
    provider = CountingProvider(MemoryStore(ONE), counted.append)
    assert await provider.info(digest_bytes(ONE)) == BlobInfo(digest_bytes(ONE), 3)
    assert await read(provider, digest_bytes(ONE), offset=1) == b"ne"
    assert sum(counted) == 2


@pytest.mark.parametrize("wrap", [CountingProvider, FirstProvider])
async def test_a_read_that_is_left_early_is_ended_at_once(
    wrap: type[CountingProvider | FirstProvider],
) -> None:
    ended = False

    class Watched(MemoryStore):
        async def read(
            self, digest: str, *, offset: int = 0, length: int | None = None
        ) -> AsyncIterator[bytes]:
            nonlocal ended
            try:
                yield b"a"
                yield b"b"
            finally:
                ended = True

    store = Watched()
    provider: Provider
    provider = (
        CountingProvider(store, lambda _: None) if wrap is CountingProvider else FirstProvider(place(store))
    )
    pieces = provider.read("d")
    assert await anext(pieces) == b"a"
    await pieces.aclose()  # type: ignore[attr-defined]
    assert ended
