from __future__ import annotations

import asyncio
import gzip
import io
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.errors import DataLossError, InvalidArgumentError, NotFoundError
from exporter.image import CompressionConfig, CompressionType, Descriptor, digest_bytes, media_types
from exporter.layer.cache import LayerCache
from exporter.layer.convert import LayerConverter
from exporter.progress.model import StatusUpdate
from exporter.progress.producer import VertexProgress
from exporter.source.types import Remote
from tests.unit.layer import tars
from tests.unit.layer.compression.test_compression import read_all
from tests.unit.layer.estargz.estargz_reader import Estargz

UNCOMPRESSED, GZIP = CompressionType.UNCOMPRESSED, CompressionType.GZIP
ESTARGZ, ZSTD = CompressionType.ESTARGZ, CompressionType.ZSTD
CREATED_AT = "buildkit/createdat"
EPOCH = 1_600_000_000
TAR = tars.tar(tars.entry("a", b"content" * 5000), tars.directory("d"))
OTHER_TAR = tars.tar(tars.entry("b", b"other"))


@pytest.fixture
def updates() -> list[StatusUpdate]:
    return []


@pytest.fixture
async def converter(tmp_path: Path, updates: list[StatusUpdate]) -> AsyncIterator[LayerConverter]:
    progress = VertexProgress(updates.append, "sha256:" + "0" * 64)
    async with LayerConverter(tmp_path, progress=progress) as converter:
        yield converter


def force(type_: CompressionType, level: int | None = None) -> CompressionConfig:
    return CompressionConfig(type_, force=True, level=level)


def status_names(updates: list[StatusUpdate]) -> list[str]:
    return [status.id for update in updates for status in update.statuses if status.completed is not None]


def files_in(directory: Path) -> set[str]:
    return {path.name for path in directory.rglob("*") if path.is_file()}


async def one(remote: Remote) -> tuple[Descriptor, bytes]:
    (descriptor,) = remote.descriptors
    return descriptor, await tars.blob_of(remote, descriptor)


# --- which layers are converted ---


@pytest.mark.parametrize("source", [UNCOMPRESSED, GZIP, ZSTD])
@pytest.mark.parametrize("target", list(CompressionType))
async def test_without_force_nothing_is_touched(
    converter: LayerConverter, source: CompressionType, target: CompressionType
) -> None:
    blobs = tars.Blobs()
    remote = tars.remote(blobs, tars.layer(blobs, TAR, source))
    assert (await converter.convert(remote, CompressionConfig(target))).descriptors == remote.descriptors
    assert not blobs.reads


@pytest.mark.parametrize("source", [UNCOMPRESSED, GZIP, ZSTD])
@pytest.mark.parametrize("target", [UNCOMPRESSED, GZIP, ZSTD])
async def test_force_converts_layers_of_other_types(
    converter: LayerConverter, source: CompressionType, target: CompressionType, updates: list[StatusUpdate]
) -> None:
    blobs = tars.Blobs()
    layer = tars.layer(blobs, TAR, source, annotations={CREATED_AT: "2024-05-06T00:00:00Z"})
    remote = await converter.convert(tars.remote(blobs, layer), force(target))
    if source is target:
        assert remote.descriptors == (layer,)
        assert not blobs.whole_reads
        assert not updates
    else:
        descriptor, blob = await one(remote)
        assert read_all(blob, target) == TAR
        assert descriptor.media_type == tars.MEDIA_TYPES[target]
        assert descriptor.annotations == layer.annotations
        assert status_names(updates) == [f"converting layer {layer.digest} to {target}"]


async def test_a_level_does_not_recompress_layers_of_the_same_type(converter: LayerConverter) -> None:
    blobs = tars.Blobs()
    remote = tars.remote(blobs, tars.layer(blobs, TAR, GZIP))
    assert (await converter.convert(remote, force(GZIP, 9))).descriptors == remote.descriptors


async def test_docker_media_types_are_layers(converter: LayerConverter) -> None:
    blobs = tars.Blobs()
    layers = [
        tars.layer(blobs, TAR, GZIP, media_type=media_types.DOCKER_LAYER_GZIP),
        tars.layer(blobs, OTHER_TAR, UNCOMPRESSED, media_type=media_types.DOCKER_LAYER),
    ]
    remote = await converter.convert(tars.remote(blobs, *layers), force(GZIP))
    assert remote.descriptors[0] == layers[0]
    assert remote.descriptors[1].media_type == media_types.OCI_LAYER_GZIP


async def test_other_blobs_are_left_alone(converter: LayerConverter) -> None:
    blobs = tars.Blobs()
    other = Descriptor("application/vnd.in-toto+json", blobs.put(b"{}"), 2)
    assert (await converter.convert(tars.remote(blobs, other), force(ZSTD))).descriptors == (other,)


async def test_layers_of_unknown_types_are_refused(converter: LayerConverter) -> None:
    blobs = tars.Blobs()
    layer = tars.layer(blobs, TAR, media_type="application/vnd.oci.image.layer.v1.tar+lz4")
    with pytest.raises(InvalidArgumentError, match=r"unsupported media type .*\+lz4"):
        await converter.convert(tars.remote(blobs, layer), force(ZSTD))


async def test_foreign_layers_become_ordinary_ones(converter: LayerConverter) -> None:
    blobs = tars.Blobs()
    foreign = tars.layer(
        blobs,
        TAR,
        GZIP,
        media_type=media_types.OCI_LAYER_NONDISTRIBUTABLE_GZIP,
        urls=("https://example.com/l",),
    )
    remote = tars.remote(blobs, foreign)
    assert (await converter.convert(remote, force(GZIP))).descriptors == (foreign,)
    descriptor, _ = await one(await converter.convert(remote, force(ZSTD)))
    assert descriptor.media_type == media_types.OCI_LAYER_ZSTD
    assert descriptor.urls == ()


async def test_converted_layers_lose_their_distribution_sources(converter: LayerConverter) -> None:
    blobs = tars.Blobs()
    layer = tars.layer(
        blobs, TAR, annotations={"containerd.io/distribution.source.example.com": "a/b", "own": "x"}
    )
    descriptor, _ = await one(await converter.convert(tars.remote(blobs, layer), force(ZSTD)))
    assert list(descriptor.annotations) == ["containerd.io/uncompressed"]


async def test_missing_media_types_are_detected(converter: LayerConverter) -> None:
    blobs = tars.Blobs()
    layer = replace(tars.layer(blobs, TAR, GZIP), media_type="")
    (found,) = (await converter.convert(tars.remote(blobs, layer), CompressionConfig())).descriptors
    assert found == replace(layer, media_type=media_types.DOCKER_LAYER_GZIP)


async def test_a_lazy_layer_stays_lazy(converter: LayerConverter) -> None:
    lazy = Descriptor(media_types.OCI_LAYER_GZIP, "sha256:" + "1" * 64, 1000)
    remote = tars.remote(tars.Blobs(), lazy)
    assert (await converter.convert(remote, force(GZIP))).descriptors == (lazy,)
    with pytest.raises(NotFoundError):
        await converter.convert(remote, force(ZSTD))


# --- estargz ---


@pytest.mark.parametrize("source", [UNCOMPRESSED, GZIP, ZSTD])
async def test_to_estargz(converter: LayerConverter, source: CompressionType) -> None:
    blobs = tars.Blobs()
    layer = tars.layer(blobs, TAR, source)
    descriptor, blob = await one(await converter.convert(tars.remote(blobs, layer), force(ESTARGZ)))
    reader = Estargz.open(blob)
    assert reader.tar == TAR
    assert descriptor.media_type == media_types.OCI_LAYER_GZIP
    assert descriptor.annotations == {
        "containerd.io/uncompressed": digest_bytes(reader.tar_with_toc),
        "containerd.io/snapshot/stargz/toc.digest": reader.toc_digest,
        "io.containers.estargz.uncompressed-size": str(len(reader.tar_with_toc)),
    }


@pytest.mark.parametrize("target", [UNCOMPRESSED, GZIP, ZSTD])
async def test_converting_from_estargz_drops_the_toc(
    converter: LayerConverter, target: CompressionType
) -> None:
    blobs = tars.Blobs()
    remote = await converter.convert(tars.remote(blobs, tars.layer(blobs, TAR)), force(ESTARGZ))
    assert (await converter.convert(remote, force(ESTARGZ))).descriptors == remote.descriptors
    descriptor, blob = await one(await converter.convert(remote, force(target)))
    assert read_all(blob, target) == TAR
    assert descriptor.annotations == {"containerd.io/uncompressed": digest_bytes(TAR)}


async def test_a_layer_that_cannot_be_estargz_is_named(converter: LayerConverter) -> None:
    blobs = tars.Blobs()
    layer = tars.layer(blobs, tars.tar(tars.entry("stargz.index.json", b"{}")))
    with pytest.raises(InvalidArgumentError, match=f"layer {layer.digest}: .*reserves"):
        await converter.convert(tars.remote(blobs, layer), force(ESTARGZ))


# --- damage ---


@pytest.mark.parametrize("target", [UNCOMPRESSED, ESTARGZ, ZSTD])
@pytest.mark.parametrize("change", ["bit", "cut", "longer", "empty"])
async def test_a_blob_that_was_changed(
    converter: LayerConverter, target: CompressionType, change: str, tmp_path: Path
) -> None:
    blobs = tars.Blobs()
    layer = tars.layer(blobs, TAR, GZIP)
    blob = gzip.compress(TAR, mtime=0)
    changed = {
        "bit": blob[:20] + bytes((blob[20] ^ 4,)) + blob[21:],
        "cut": blob[:-20],
        "longer": blob + b"x",
        "empty": b"",
    }
    blobs.put(changed[change], layer.digest)
    with pytest.raises(DataLossError, match=f"blob {layer.digest} (is corrupt|ends after|is longer)"):
        await converter.convert(tars.remote(blobs, layer), force(target))
    assert not files_in(tmp_path) - {"index.json", "oci-layout"}


async def test_a_blob_that_was_always_corrupt(converter: LayerConverter) -> None:
    blobs = tars.Blobs()
    data = gzip.compress(TAR)[:-20]
    layer = Descriptor(media_types.OCI_LAYER_GZIP, blobs.put(data), len(data))
    with pytest.raises(DataLossError, match=f"layer {layer.digest}: the gzip stream is truncated"):
        await converter.convert(tars.remote(blobs, layer), force(ZSTD))


async def test_a_blob_that_is_something_else(converter: LayerConverter) -> None:
    blobs = tars.Blobs()
    layer = Descriptor(media_types.OCI_LAYER_GZIP, blobs.put(b"plain text"), 10)
    with pytest.raises(InvalidArgumentError, match=f"layer {layer.digest}: .*neither gzip, zstd nor tar"):
        await converter.convert(tars.remote(blobs, layer), force(ZSTD))


async def test_a_wrong_diff_id(converter: LayerConverter) -> None:
    blobs = tars.Blobs()
    layer = tars.layer(blobs, TAR, annotations={"containerd.io/uncompressed": digest_bytes(b"")})
    with pytest.raises(
        DataLossError, match=f"layer {layer.digest}: the digest of its tar is {digest_bytes(TAR)}"
    ):
        await converter.convert(tars.remote(blobs, layer), force(ZSTD))


async def test_a_level_that_does_not_exist(converter: LayerConverter) -> None:
    blobs = tars.Blobs()
    remote = tars.remote(blobs, tars.layer(blobs, TAR, GZIP))
    assert (await converter.convert(remote, force(GZIP, 10))).descriptors == remote.descriptors
    with pytest.raises(InvalidArgumentError, match="invalid compression level: 10"):
        await converter.convert(remote, force(ESTARGZ, 10))
    with pytest.raises(InvalidArgumentError, match="invalid compression level: 10"):
        await converter.rewrite_timestamps(remote, CompressionConfig(GZIP, level=10), EPOCH)


async def test_cancellation_leaves_nothing(tmp_path: Path) -> None:
    class Endless(tars.Blobs):
        started = asyncio.Event()

        async def read(
            self, digest: str, *, offset: int = 0, length: int | None = None
        ) -> AsyncIterator[bytes]:
            if length is not None:
                yield bytes(length)
                return
            yield gzip.compress(TAR[:-1024])[:-8]
            self.started.set()
            await asyncio.sleep(3600)

    layer = Descriptor(media_types.OCI_LAYER_GZIP, "sha256:" + "1" * 64, 1 << 40)
    async with LayerConverter(tmp_path) as converter:
        task = asyncio.create_task(converter.convert(Remote((layer,), Endless()), force(ZSTD)))
        await Endless.started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert files_in(tmp_path) == {"index.json", "oci-layout"}


# --- each once ---


async def test_each_layer_is_converted_once(converter: LayerConverter) -> None:
    blobs = tars.Blobs()
    layer, other = tars.layer(blobs, TAR), tars.layer(blobs, OTHER_TAR)
    remotes = await asyncio.gather(
        converter.convert(tars.remote(blobs, layer, other, layer), force(ZSTD)),
        converter.convert(tars.remote(blobs, other, layer), force(ZSTD)),
    )
    assert sorted(blobs.whole_reads) == sorted([layer.digest, other.digest])
    assert remotes[0].descriptors[0] == remotes[0].descriptors[2] == remotes[1].descriptors[1]
    for remote in remotes:
        for descriptor in remote.descriptors:
            await tars.blob_of(remote, descriptor)


async def test_converted_and_untouched_blobs_come_from_one_provider(converter: LayerConverter) -> None:
    blobs = tars.Blobs()
    layers = [tars.layer(blobs, TAR, ZSTD), tars.layer(blobs, OTHER_TAR, GZIP)]
    remote = await converter.convert(tars.remote(blobs, *layers), force(ZSTD))
    assert remote.descriptors[0] == layers[0]
    assert [read_all(await tars.blob_of(remote, d), ZSTD) for d in remote.descriptors] == [TAR, OTHER_TAR]


async def test_a_cache_saves_the_work(tmp_path: Path) -> None:
    blobs = tars.Blobs()
    remote = tars.remote(blobs, tars.layer(blobs, TAR), tars.layer(blobs, OTHER_TAR))
    cache = LayerCache(tmp_path / "cache")
    results = []
    for name in ("first", "second"):
        async with LayerConverter(tmp_path / name, cache=cache) as converter:
            (tmp_path / name).mkdir()
            converted = await converter.convert(remote, force(ESTARGZ))
            rewritten = await converter.rewrite_timestamps(remote, CompressionConfig(ZSTD), EPOCH)
        for result in (converted, rewritten):
            for descriptor in result.descriptors:
                await tars.blob_of(result, descriptor)
        results.append((converted.descriptors, rewritten.descriptors))
    assert results[0] == results[1]
    assert len(blobs.whole_reads) == 4  # twice each, for the first converter


# --- rewriting ---


def times(tar: bytes) -> dict[str, float]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {info.name: info.mtime for info in archive}


@pytest.mark.parametrize("target", list(CompressionType))
async def test_rewriting_recompresses(
    converter: LayerConverter, target: CompressionType, updates: list[StatusUpdate]
) -> None:
    blobs = tars.Blobs()
    layer = tars.layer(blobs, TAR, GZIP, annotations={CREATED_AT: "2024-05-06T00:00:00Z"})
    remote = await converter.rewrite_timestamps(tars.remote(blobs, layer), CompressionConfig(target), EPOCH)
    descriptor, blob = await one(remote)
    tar = Estargz.open(blob).tar if target is ESTARGZ else read_all(blob, target)
    assert times(tar) == {"a": EPOCH, "d": EPOCH}
    assert descriptor.annotations["buildkit/rewritten-timestamp"] == str(EPOCH)
    assert descriptor.annotations[CREATED_AT] == "2024-05-06T00:00:00Z"
    if target is not ESTARGZ:
        assert remote.diff_ids == (digest_bytes(tar),)
    assert status_names(updates) == [
        "rewriting layers with source-date-epoch 1600000000 (2020-09-13 12:26:40 +0000 UTC)"
    ]


async def test_the_layers_of_the_base_image_stay(converter: LayerConverter) -> None:
    blobs = tars.Blobs()
    tar_of = [tars.tar(tars.entry(name)) for name in "abcd"]
    layers = [tars.layer(blobs, tar) for tar in tar_of]
    remote = tars.remote(blobs, *layers)
    ids = [digest_bytes(tar) for tar in tar_of]
    for base, kept in (
        ([], 0),
        (ids[:2], 2),
        (ids, 4),
        ([*ids, "sha256:more"], 4),
        ([ids[0], ids[2], ids[2]], 1),
        ([ids[1], ids[1]], 0),
    ):
        result = await converter.rewrite_timestamps(remote, CompressionConfig(), EPOCH, base_diff_ids=base)
        assert [new == old for new, old in zip(result.descriptors, layers, strict=True)] == [
            position < kept for position in range(4)
        ]


async def test_a_base_layer_of_unknown_diff_id_stays(converter: LayerConverter) -> None:
    blobs = tars.Blobs()
    layers = [replace(tars.layer(blobs, tar), annotations={}) for tar in (TAR, OTHER_TAR)]
    base = [digest_bytes(TAR), digest_bytes(OTHER_TAR)]
    remote = await converter.rewrite_timestamps(
        tars.remote(blobs, *layers), CompressionConfig(), EPOCH, base_diff_ids=base
    )
    # As in BuildKit, it is the first of them only that is found out.
    assert remote.descriptors[0] == layers[0]
    assert remote.descriptors[1] != layers[1]


async def test_rewritten_layers_are_not_rewritten_again(converter: LayerConverter) -> None:
    blobs = tars.Blobs()
    once = await converter.rewrite_timestamps(
        tars.remote(blobs, tars.layer(blobs, TAR)), CompressionConfig(), EPOCH
    )
    again = await converter.rewrite_timestamps(once, CompressionConfig(), EPOCH)
    assert again.descriptors == once.descriptors
    other = await converter.rewrite_timestamps(once, CompressionConfig(), EPOCH - 1)
    assert other.descriptors != once.descriptors
    compressed = await converter.rewrite_timestamps(once, CompressionConfig(ZSTD), EPOCH)
    assert compressed.diff_ids == once.diff_ids
    assert compressed.descriptors != once.descriptors


async def test_rewriting_estargz_drops_its_table(converter: LayerConverter) -> None:
    blobs = tars.Blobs()
    estargz = await converter.convert(tars.remote(blobs, tars.layer(blobs, TAR)), force(ESTARGZ))
    _, blob = await one(await converter.rewrite_timestamps(estargz, CompressionConfig(), EPOCH))
    assert set(times(read_all(blob, GZIP))) == {"a", "d"}


async def test_a_layer_that_cannot_be_rewritten_stays_with_a_warning(
    converter: LayerConverter, updates: list[StatusUpdate]
) -> None:
    blobs = tars.Blobs()
    bad, good = tars.layer(blobs, b"no tar" * 500), tars.layer(blobs, TAR)
    remote = await converter.rewrite_timestamps(tars.remote(blobs, bad, good), CompressionConfig(), EPOCH)
    assert remote.descriptors[0] == bad
    assert remote.descriptors[1] != good
    (warning,) = [warning for update in updates for warning in update.warnings]
    assert warning.short.startswith(
        "failed to rewrite layer 1/2 to match source-date-epoch 1600000000 (2020-"
    )
    assert bad.digest in warning.short


async def test_a_damaged_layer_is_an_error_not_a_warning(converter: LayerConverter) -> None:
    blobs = tars.Blobs()
    layer = tars.layer(blobs, TAR)
    blobs.put(gzip.compress(OTHER_TAR), layer.digest)
    with pytest.raises(DataLossError):
        await converter.rewrite_timestamps(tars.remote(blobs, layer), CompressionConfig(), EPOCH)
