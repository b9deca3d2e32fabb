"""Small tars and layers for the tests, and blobs to read them from."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from exporter.content.memory import MemoryStore
from exporter.image import CompressionType, Descriptor, digest_bytes
from exporter.image.media_types import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD
from exporter.layer.compression.gzip_writer import Pool
from exporter.layer.compression.libzstd import zstd
from exporter.source.types import Remote

MEDIA_TYPES = {
    CompressionType.UNCOMPRESSED: OCI_LAYER,
    CompressionType.GZIP: OCI_LAYER_GZIP,
    CompressionType.ZSTD: OCI_LAYER_ZSTD,
}


def pool(threads: int = 2) -> Pool:
    return Pool(ThreadPoolExecutor(threads), threads)


def entry(name: str, data: bytes = b"", **attributes: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mtime = 1_700_000_000
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def directory(name: str, **attributes: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, **{"type": tarfile.DIRTYPE, "mode": 0o755, **attributes})


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.SYMTYPE, linkname=target)


def hardlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.LNKTYPE, linkname=target)


def tar(*entries: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar with just two zero blocks at its end."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
        end = archive.offset
    return out.getvalue()[:end] + bytes(1024)


def compress(data: bytes, compression: CompressionType) -> bytes:
    match compression:
        case CompressionType.GZIP:
            return gzip.compress(data, mtime=0)
        case CompressionType.ZSTD:
            return zstd.compress(data)
        case _:
            return data


class Blobs(MemoryStore):
    """A store that counts what is read, and can be told to give other bytes than it should."""

    def __init__(self, blobs: Mapping[str, bytes] | None = None) -> None:
        super().__init__()
        self.reads: list[tuple[str, int, int | None]] = []
        for digest, data in (blobs or {}).items():
            self.put(data, digest)

    def put(self, data: bytes, digest: str = "") -> str:
        digest = digest or digest_bytes(data)
        self._blobs[digest] = data
        return digest

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        self.reads.append((digest, offset, length))
        async for data in super().read(digest, offset=offset, length=length):
            yield data

    @property
    def whole_reads(self) -> list[str]:
        return [digest for digest, offset, length in self.reads if offset == 0 and length is None]


def layer(
    blobs: Blobs,
    data: bytes,
    compression: CompressionType = CompressionType.GZIP,
    *,
    media_type: str = "",
    annotations: Mapping[str, str] | None = None,
    urls: tuple[str, ...] = (),
) -> Descriptor:
    """Compress a tar, put it into the store and describe it."""
    blob = compress(data, compression)
    return Descriptor(
        media_type or MEDIA_TYPES[compression],
        blobs.put(blob),
        len(blob),
        urls=urls,
        annotations={"containerd.io/uncompressed": digest_bytes(data), **(annotations or {})},
    )


def remote(blobs: Blobs, *layers: Descriptor) -> Remote:
    return Remote(layers, blobs)


async def blob_of(source: Remote, descriptor: Descriptor) -> bytes:
    """Read a blob, and check that it is what its descriptor says."""
    data = b"".join([piece async for piece in source.provider.read(descriptor.digest)])
    assert len(data) == descriptor.size
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == descriptor.digest
    return data
