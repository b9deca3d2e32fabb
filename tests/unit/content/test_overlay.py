from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from exporter.content import MemoryStore, MultiProvider, read_blob
from exporter.content.overlay import CountingProvider, FirstProvider, Place
from exporter.content.protocol import BlobInfo, Provider
from exporter.errors import NotFoundError, UnavailableError
from exporter.image import digest_bytes
from tests.unit.content.images import describe

ONE, TWO = b"one", b"two"


def place(provider: Provider | None, asked: list[str] | None = None, name: str = "") -> Place:
    async def give() -> Provider | None:
        if asked is not None:
            asked.append(name)
        return provider

    return give


async def read(provider: Provider, digest: str, **part: int) -> bytes:
    return b"".join([piece async for piece in provider.read(digest, **part)])


async def test_blobs_come_from_the_provider_that_was_added_for_them() -> None:
    provider = MultiProvider(MemoryStore(b"base"))
    provider.add(describe(b"layer").digest, MemoryStore(b"layer"))
    assert await read_blob(provider, describe(b"base")) == b"base"
    assert await read_blob(provider, describe(b"layer")) == b"layer"
    assert (await provider.info(describe(b"layer").digest)).size == 5
    with pytest.raises(NotFoundError):
        await provider.info(describe(b"other").digest)


async def test_an_added_provider_hides_the_base() -> None:
    provider = MultiProvider(MemoryStore(b"blob"))
    provider.add(describe(b"blob").digest, MemoryStore())
    with pytest.raises(NotFoundError):
        await read_blob(provider, describe(b"blob"))


async def test_without_a_base_other_blobs_are_not_found_when_they_are_read() -> None:
    reader = MultiProvider().read(describe(b"blob").digest)
    with pytest.raises(NotFoundError):
        await anext(aiter(reader))


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


async def test_no_place_has_the_blob() -> None:
    provider = FirstProvider(place(MemoryStore()), place(None), where="the attic or the cellar")
    with pytest.raises(NotFoundError, match="not found in the attic or the cellar"):
        await provider.info(digest_bytes(ONE))
    with pytest.raises(NotFoundError):
        await read(provider, digest_bytes(ONE))


async def test_other_failures_are_not_mistaken_for_absence() -> None:
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


async def test_a_counting_provider_counts_the_bytes_read() -> None:
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


async def test_blobs_with_unverified_digests() -> None:
    provider = MemoryStore.of({"d": b"0123"})
    assert await provider.info("d") == BlobInfo("d", 4)
    assert await read(provider, "d") == b"0123"
    assert await read(provider, "d", offset=1) == b"123"
    assert await read(provider, "d", offset=1, length=2) == b"12"
    with pytest.raises(NotFoundError):
        await provider.info("e")


async def test_what_is_read_is_counted() -> None:
    counted: list[int] = []
    provider = CountingProvider(MemoryStore(b"blob"), counted.append)
    digest = describe(b"blob").digest
    assert await read(provider, digest) == b"blob"
    assert await read(provider, digest, offset=1, length=2) == b"lo"
    assert sum(counted) == 6
