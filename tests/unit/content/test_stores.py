"""The behaviour that all content stores share."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.content import BlobInfo, ContentStore, MemoryStore, OCILayout
from exporter.content.files import CHUNK_SIZE
from exporter.errors import DataLossError, InvalidArgumentError, NotFoundError
from exporter.image import Descriptor, digest_bytes
from tests.unit.content.images import describe

Stores = MemoryStore | OCILayout


@pytest.fixture(params=["memory", "layout"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    return MemoryStore() if request.param == "memory" else OCILayout(tmp_path / "layout")


async def _digests(store: Stores) -> set[str]:
    blobs = store.blobs() if isinstance(store, MemoryStore) else await store.blobs()
    return {blob.digest for blob in blobs}


async def _write(store: ContentStore, expected: Descriptor | None, *pieces: bytes) -> BlobInfo:
    async with store.ingest(expected) as writer:
        for piece in pieces:
            await writer.write(piece)
        return await writer.commit()


async def _read(store: ContentStore, digest: str, offset: int = 0, length: int | None = None) -> bytes:
    return b"".join([piece async for piece in store.read(digest, offset=offset, length=length)])


@pytest.mark.parametrize(
    "pieces", [(), (b"abc",), (b"a", b"", b"bc"), (b"x" * CHUNK_SIZE, b"y" * CHUNK_SIZE, b"z")]
)
async def test_reads_back_what_was_written(store: Stores, pieces: tuple[bytes, ...]) -> None:
    data = b"".join(pieces)
    assert await _write(store, describe(data), *pieces) == BlobInfo(digest_bytes(data), len(data))
    assert await store.info(digest_bytes(data)) == BlobInfo(digest_bytes(data), len(data))
    assert await _read(store, digest_bytes(data)) == data


async def test_returns_the_digest_without_a_descriptor(store: Stores) -> None:
    assert await _write(store, None, b"abc") == BlobInfo(digest_bytes(b"abc"), 3)
    assert await _read(store, digest_bytes(b"abc")) == b"abc"


async def test_accepts_other_algorithms(store: Stores) -> None:
    digest = f"sha512:{hashlib.sha512(b'abc').hexdigest()}"
    assert await _write(store, Descriptor("", digest, 3), b"abc") == BlobInfo(digest, 3)
    assert await _digests(store) == {digest}


@pytest.mark.parametrize("data", [b"abd", b"ab", b"abcd", b""])
async def test_refuses_wrong_bytes_and_stays_unchanged(store: Stores, data: bytes) -> None:
    await _write(store, None, b"other")
    before = await _digests(store)
    with pytest.raises(DataLossError, match=digest_bytes(b"abc")):
        await _write(store, describe(b"abc"), data)
    assert await _digests(store) == before
    with pytest.raises(NotFoundError):
        await store.info(digest_bytes(b"abc"))


async def test_a_blob_that_is_too_long_fails_before_its_end(store: Stores) -> None:
    async with store.ingest(describe(b"abc")) as writer:
        with pytest.raises(DataLossError, match="longer"):
            while True:
                await writer.write(b"x" * CHUNK_SIZE)


async def test_a_blob_is_visible_only_after_the_commit(store: Stores) -> None:
    async with store.ingest(describe(b"abc")) as writer:
        await writer.write(b"abc")
        with pytest.raises(NotFoundError):
            await store.info(digest_bytes(b"abc"))
    assert await _digests(store) == set()


async def test_a_failure_of_the_caller_discards_the_blob(store: Stores) -> None:
    with pytest.raises(ZeroDivisionError):
        async with store.ingest(describe(b"abc")) as writer:
            await writer.write(b"abc")
            raise ZeroDivisionError
    assert await _digests(store) == set()


async def test_cancellation_discards_the_blob(store: Stores) -> None:
    writing = asyncio.Event()

    async def write() -> None:
        async with store.ingest() as writer:
            await writer.write(b"x" * CHUNK_SIZE)
            writing.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await writing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _digests(store) == set()


async def test_all_writers_of_one_digest_succeed(store: Stores) -> None:
    data = b"x" * (2 * CHUNK_SIZE + 1)
    results = await asyncio.gather(*(_write(store, describe(data), data[:9], data[9:]) for _ in range(8)))
    assert set(results) == {BlobInfo(digest_bytes(data), len(data))}
    assert await _read(store, digest_bytes(data)) == data


async def test_missing_blobs_are_not_found(store: Stores) -> None:
    with pytest.raises(NotFoundError, match=digest_bytes(b"abc")):
        await store.info(digest_bytes(b"abc"))
    reader = store.read(digest_bytes(b"abc"))
    with pytest.raises(NotFoundError, match=digest_bytes(b"abc")):
        await anext(aiter(reader))


async def test_refuses_a_descriptor_without_digest(store: Stores) -> None:
    with pytest.raises(InvalidArgumentError, match="digest"):
        async with store.ingest(Descriptor("", "", 3)):
            pass


async def test_pieces_have_a_bounded_size(store: Stores) -> None:
    data = b"x" * (3 * CHUNK_SIZE + 1)
    await _write(store, None, data)
    sizes = [len(piece) async for piece in store.read(digest_bytes(data))]
    assert sum(sizes) == len(data)
    assert max(sizes) <= CHUNK_SIZE


@given(
    data=st.binary(max_size=40), offset=st.integers(0, 50), length=st.one_of(st.none(), st.integers(0, 50))
)
@pytest.mark.parametrize("make", [lambda path: MemoryStore(), OCILayout], ids=["memory", "layout"])
def test_reads_any_part(
    make: Callable[[Path], Stores],
    tmp_path_factory: pytest.TempPathFactory,
    data: bytes,
    offset: int,
    length: int | None,
) -> None:
    async def check() -> bytes:
        store = make(tmp_path_factory.getbasetemp() / "parts")
        info = await _write(store, None, data)
        return await _read(store, info.digest, offset, length)

    wanted = data[offset:] if length is None else data[offset : offset + length]
    assert asyncio.run(check()) == wanted


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_an_abandoned_reader_closes_its_file(tmp_path: Path) -> None:
    store = OCILayout(tmp_path / "layout")
    info = await _write(store, None, b"x" * (CHUNK_SIZE + 1))
    reader = store.read(info.digest)
    assert await anext(aiter(reader)) == b"x" * CHUNK_SIZE
    before = _open_files()
    await reader.aclose()  # type: ignore[attr-defined]
    assert _open_files() == before - 1
