from __future__ import annotations

import pytest

from exporter.content import MemoryStore, MultiProvider, read_blob
from exporter.errors import NotFoundError
from tests.unit.content.images import describe


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
