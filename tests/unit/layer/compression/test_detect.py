from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.image import CompressionType, Descriptor, media_types
from exporter.layer.compression.detect import (
    compression_of,
    detect_media_type,
    find_toc,
    is_layer_type,
    media_type_of,
    open_layer,
    sniff,
)
from exporter.layer.compression.gzip_writer import GzipWriter
from exporter.layer.compression.libzstd import zstd
from exporter.layer.estargz.writer import footer, write_estargz
from exporter.layer.streams import Readable
from tests.unit.layer import tars

TAR = tars.tar(tars.entry("a", b"content"))


def estargz(tar: bytes = TAR) -> bytes:
    out = io.BytesIO()
    write_estargz(io.BytesIO(tar), out, GzipWriter(out, 6, tars.pool(1)), io.BytesIO())
    return out.getvalue()


def read_all(source: Readable) -> bytes:
    pieces = []
    while piece := source.read(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.mark.parametrize(
    ("media_type", "compression"),
    [
        (media_types.OCI_LAYER, CompressionType.UNCOMPRESSED),
        (media_types.OCI_LAYER_GZIP, CompressionType.GZIP),
        (media_types.OCI_LAYER_ZSTD, CompressionType.ZSTD),
        (media_types.OCI_LAYER_NONDISTRIBUTABLE, CompressionType.UNCOMPRESSED),
        (media_types.OCI_LAYER_NONDISTRIBUTABLE_GZIP, CompressionType.GZIP),
        (media_types.OCI_LAYER_NONDISTRIBUTABLE_ZSTD, CompressionType.ZSTD),
        (media_types.DOCKER_LAYER, CompressionType.UNCOMPRESSED),
        (media_types.DOCKER_LAYER_GZIP, CompressionType.GZIP),
        (media_types.DOCKER_LAYER_ZSTD, CompressionType.ZSTD),
        (media_types.DOCKER_LAYER_FOREIGN, CompressionType.UNCOMPRESSED),
        (media_types.DOCKER_LAYER_FOREIGN_GZIP, CompressionType.GZIP),
    ],
)
def test_media_types(media_type: str, compression: CompressionType) -> None:
    assert compression_of(media_type) is compression
    assert is_layer_type(media_type)


@pytest.mark.parametrize(
    ("media_type", "is_layer"),
    [
        ("application/vnd.oci.image.layer.v1.tar+lz4", True),
        ("application/vnd.oci.image.layer.v1.tar+GZIP", True),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.zstd", False),
        ("application/vnd.in-toto+json", False),
        ("application/octet-stream", False),
        ("", False),
    ],
)
def test_other_media_types(media_type: str, is_layer: bool) -> None:
    assert is_layer_type(media_type) is is_layer
    with pytest.raises(InvalidArgumentError, match="unsupported media type"):
        compression_of(media_type)


def test_media_types_of_new_layers() -> None:
    assert [media_type_of(type_) for type_ in CompressionType] == [
        media_types.OCI_LAYER,
        media_types.OCI_LAYER_GZIP,
        media_types.OCI_LAYER_GZIP,
        media_types.OCI_LAYER_ZSTD,
    ]


@pytest.mark.parametrize(
    ("blob", "compression"),
    [
        (b"", CompressionType.UNCOMPRESSED),
        (bytes(1024), CompressionType.UNCOMPRESSED),
        (TAR, CompressionType.UNCOMPRESSED),
        (gzip.compress(TAR), CompressionType.GZIP),
        (zstd.compress(TAR), CompressionType.ZSTD),
        (bytes.fromhex("502a4d18") + bytes(4), CompressionType.ZSTD),
        (bytes.fromhex("5f2a4d18") + bytes(4), CompressionType.ZSTD),
        (bytes.fromhex("602a4d18") + bytes(4), None),
        (b"BZh9", None),
        (b"plain text" * 100, None),
    ],
)
def test_sniffing(blob: bytes, compression: CompressionType | None) -> None:
    assert sniff(blob[:512]) is compression


@pytest.mark.parametrize("blob", [TAR, gzip.compress(TAR), zstd.compress(TAR)])
@pytest.mark.parametrize("media_type", [media_types.OCI_LAYER_GZIP, media_types.DOCKER_LAYER_ZSTD])
def test_bytes_take_precedence_over_a_compressed_media_type(blob: bytes, media_type: str) -> None:
    assert read_all(open_layer(io.BytesIO(blob), media_type)) == TAR


def test_an_uncompressed_media_type_takes_precedence_over_bytes() -> None:
    blob = gzip.compress(TAR)
    assert read_all(open_layer(io.BytesIO(blob), media_types.OCI_LAYER)) == blob


def test_a_blob_that_is_not_a_layer() -> None:
    with pytest.raises(InvalidArgumentError, match=r"tar\+gzip beginning with b'plain te' is neither gzip"):
        open_layer(io.BytesIO(b"plain text"), media_types.OCI_LAYER_GZIP)


@pytest.mark.parametrize(
    ("blob", "media_type"),
    [
        (TAR, media_types.DOCKER_LAYER),
        (gzip.compress(TAR), media_types.DOCKER_LAYER_GZIP),
        (zstd.compress(TAR), media_types.DOCKER_LAYER_ZSTD),
    ],
)
async def test_a_missing_media_type_is_detected(blob: bytes, media_type: str) -> None:
    blobs = tars.Blobs()
    assert await detect_media_type(blobs, blobs.put(blob)) == media_type


async def test_a_missing_media_type_that_cannot_be_detected() -> None:
    blobs = tars.Blobs()
    with pytest.raises(InvalidArgumentError, match="failed to detect layer sha256:.* compression type"):
        await detect_media_type(blobs, blobs.put(b"plain text"))


async def test_the_toc_of_estargz_is_found(executor: ThreadPoolExecutor) -> None:
    blobs = tars.Blobs()
    blob = estargz()
    descriptor = Descriptor(media_types.OCI_LAYER_GZIP, blobs.put(blob), len(blob))
    assert await find_toc(blobs, descriptor, executor) == int(blob[-35:-19], 16)
    assert not blobs.whole_reads


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"short",
        gzip.compress(TAR),
        TAR,
        gzip.compress(TAR) + footer(0),
        gzip.compress(TAR) + footer(5),
        gzip.compress(TAR) + footer(1 << 40),
        gzip.compress(tars.tar(tars.entry("stargz.index.json", b"{}"), tars.entry("b"))) + footer(0),
        estargz()[:-51] + b"x" + footer(0),
    ],
)
async def test_blobs_that_only_look_like_estargz(blob: bytes, executor: ThreadPoolExecutor) -> None:
    blobs = tars.Blobs()
    descriptor = Descriptor(media_types.OCI_LAYER_GZIP, blobs.put(blob), len(blob))
    assert await find_toc(blobs, descriptor, executor) is None


async def test_a_missing_blob_is_reported(executor: ThreadPoolExecutor) -> None:
    descriptor = Descriptor(media_types.OCI_LAYER_GZIP, "sha256:" + "0" * 64, 100)
    with pytest.raises(NotFoundError):
        await find_toc(tars.Blobs(), descriptor, executor)
