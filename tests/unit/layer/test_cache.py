from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from exporter.content.files import BlobDirectory
from exporter.image import CompressionType, Descriptor, digest_bytes, media_types
from exporter.layer.cache import ConvertedLayer, LayerCache
from exporter.layer.recode import Recipe

SOURCE = "sha256:" + "a" * 64
RECIPE = Recipe(CompressionType.ZSTD, 3)


def blob(directory: Path, data: bytes) -> ConvertedLayer:
    """Put a blob where a converter would have put it."""
    digest = digest_bytes(data)
    path = BlobDirectory(directory).path_of(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    descriptor = Descriptor(media_types.OCI_LAYER_ZSTD, digest, len(data), annotations={"k": "v"})
    return ConvertedLayer(descriptor, digest_bytes(b"tar of " + data))


def read(directory: Path, layer: ConvertedLayer) -> bytes:
    return BlobDirectory(directory).path_of(layer.descriptor.digest).read_bytes()


def blobs_in(cache: Path) -> set[str]:
    return {f"sha256:{path.name}" for path in (cache / "blobs" / "sha256").iterdir()}


async def put(cache: LayerCache, directory: Path, data: bytes, source: str = SOURCE) -> ConvertedLayer:
    layer = blob(directory, data)
    await cache.put(source, RECIPE, layer, BlobDirectory(directory))
    return layer


async def test_an_entry_can_be_read_back(tmp_path: Path) -> None:
    layer = await put(LayerCache(tmp_path / "cache"), tmp_path / "a", b"blob")
    # Another process, later.
    cache = LayerCache(tmp_path / "cache")
    assert await cache.get(SOURCE, RECIPE, BlobDirectory(tmp_path / "b")) == layer
    assert read(tmp_path / "b", layer) == b"blob"


async def test_an_empty_cache(tmp_path: Path) -> None:
    cache = LayerCache(tmp_path / "cache")
    assert await cache.get(SOURCE, RECIPE, BlobDirectory(tmp_path / "b")) is None
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("source", "recipe"),
    [
        ("sha256:" + "b" * 64, RECIPE),
        (SOURCE, Recipe(CompressionType.GZIP, 3)),
        (SOURCE, Recipe(CompressionType.ZSTD, 7)),
        (SOURCE, Recipe(CompressionType.ZSTD, 3, epoch=0)),
    ],
)
async def test_any_difference_in_the_key_is_a_miss(tmp_path: Path, source: str, recipe: Recipe) -> None:
    cache = LayerCache(tmp_path / "cache")
    await put(cache, tmp_path / "a", b"blob")
    assert await cache.get(source, recipe, BlobDirectory(tmp_path / "b")) is None


@pytest.mark.parametrize("damage", [b"blub", b"blo", b"blobs", None])
async def test_a_damaged_blob_is_dropped(tmp_path: Path, damage: bytes | None) -> None:
    cache = LayerCache(tmp_path / "cache")
    layer = await put(cache, tmp_path / "a", b"blob")
    path = BlobDirectory(tmp_path / "cache" / "blobs").path_of(layer.descriptor.digest)
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    assert await cache.get(SOURCE, RECIPE, BlobDirectory(tmp_path / "b")) is None
    assert not list((tmp_path / "b").rglob("*/*"))
    assert read(tmp_path / "a", layer) == b"blob"
    await put(cache, tmp_path / "a", b"blob")
    assert await cache.get(SOURCE, RECIPE, BlobDirectory(tmp_path / "b")) == layer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "{",
        '{"descriptor": {"digest": "../../x", "size": 1, "mediaType": "m"}, "sourceDiffID": ""}',
    ],
)
async def test_a_damaged_record_is_ignored(tmp_path: Path, text: str) -> None:
    cache = LayerCache(tmp_path / "cache")
    await put(cache, tmp_path / "a", b"blob")
    (record,) = (tmp_path / "cache" / "records").iterdir()
    record.write_text(text)
    assert await cache.get(SOURCE, RECIPE, BlobDirectory(tmp_path / "b")) is None


async def test_the_least_recently_used_entry_is_evicted(tmp_path: Path) -> None:
    cache = LayerCache(tmp_path / "cache", limit=25)
    sources = [f"sha256:{number:064x}" for number in range(3)]
    layers = []
    for number, source in enumerate(sources):
        layers.append(await put(cache, tmp_path / "a", bytes((number,)) * 10, source))
        for age, record in enumerate(
            sorted((tmp_path / "cache" / "records").iterdir(), key=os.path.getmtime)
        ):
            os.utime(record, (age, age))
        if number == 1:
            assert await cache.get(sources[0], RECIPE, BlobDirectory(tmp_path / "b")) == layers[0]
    kept = [layers[0].descriptor.digest, layers[2].descriptor.digest]
    assert blobs_in(tmp_path / "cache") == set(kept)
    assert await cache.get(sources[1], RECIPE, BlobDirectory(tmp_path / "b")) is None
    # Whoever made it has it still.
    assert read(tmp_path / "a", layers[1]) == b"\x01" * 10


async def test_a_blob_in_two_records_counts_once(tmp_path: Path) -> None:
    cache = LayerCache(tmp_path / "cache", limit=10)
    for number in range(3):
        await put(cache, tmp_path / "a", b"0123456789", f"sha256:{number:064x}")
    assert len(list((tmp_path / "cache" / "records").iterdir())) == 3


async def test_old_blobs_without_a_record_are_removed(tmp_path: Path) -> None:
    cache = LayerCache(tmp_path / "cache")
    old = blob(tmp_path / "cache" / "blobs", b"old")
    new = blob(tmp_path / "cache" / "blobs", b"new")
    os.utime(BlobDirectory(tmp_path / "cache" / "blobs").path_of(old.descriptor.digest), (0, 0))
    layer = await put(cache, tmp_path / "a", b"blob")
    assert blobs_in(tmp_path / "cache") == {layer.descriptor.digest, new.descriptor.digest}


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM])
async def test_without_hard_links_blobs_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    cache = LayerCache(tmp_path / "cache")
    layer = await put(cache, tmp_path / "a", b"blob" * 1_000_000)
    assert await cache.get(SOURCE, RECIPE, BlobDirectory(tmp_path / "b")) == layer
    assert read(tmp_path / "b", layer) == b"blob" * 1_000_000
    assert {path.name for path in (tmp_path / "b" / "sha256").iterdir()} == {layer.descriptor.digest[7:]}


async def test_a_cache_that_does_not_work_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await put(LayerCache(tmp_path / "cache"), tmp_path / "a", b"other", "sha256:" + "b" * 64)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "link", refuse)
    cache = LayerCache(tmp_path / "cache")
    await put(cache, tmp_path / "a", b"blob")
    assert "cannot cache" in caplog.text
    assert await cache.get("sha256:" + "b" * 64, RECIPE, BlobDirectory(tmp_path / "b")) is None
    assert "cannot read a converted layer" in caplog.text


async def test_many_at_once(tmp_path: Path) -> None:
    caches = [LayerCache(tmp_path / "cache") for _ in range(3)]
    sources = [f"sha256:{number:064x}" for number in range(12)]
    layers = await asyncio.gather(
        *(
            put(caches[number % 3], tmp_path / "a", b"%d" % number, source)
            for number, source in enumerate(sources)
        )
    )
    into = BlobDirectory(tmp_path / "b")
    assert [await caches[0].get(source, RECIPE, into) for source in sources] == layers


async def test_a_lower_limit_is_enforced_without_a_new_layer(tmp_path: Path) -> None:
    cache = LayerCache(tmp_path / "cache")
    await cache.prune()
    assert not (tmp_path / "cache").exists()
    layer = await put(cache, tmp_path / "a", b"blob")
    await LayerCache(tmp_path / "cache", limit=4).prune()
    assert await cache.get(SOURCE, RECIPE, BlobDirectory(tmp_path / "b")) == layer
    await LayerCache(tmp_path / "cache", limit=3).prune()
    assert await cache.get(SOURCE, RECIPE, BlobDirectory(tmp_path / "c")) is None
    assert not list((tmp_path / "cache" / "blobs").rglob("*/*"))


async def test_a_cache_that_cannot_be_pruned_does_no_harm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = LayerCache(tmp_path / "cache", limit=0)
    (tmp_path / "cache" / "records").mkdir(parents=True)
    (tmp_path / "cache" / "lock").mkdir()
    await cache.prune()
    assert "cannot prune" in caplog.text
