"""Saved sources of any size, made on the spot."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from isal import igzip

from exporter.content.layout import OCILayout
from exporter.image import Descriptor, digest_bytes
from exporter.image.keys import DIFF_ID
from exporter.image.media_types import OCI_LAYER, OCI_LAYER_GZIP
from exporter.source.saved.format import ChainsFile, LayerRecord, RefRecord, SourceFile, write_document

FILE_SIZE = 32 << 20
CONFIG = b'{"os":"linux","architecture":"amd64"}'
CREATED = "2024-05-06T07:08:09Z"


class SupportsWrite(Protocol):
    """Something to write to."""

    def write(self, data: bytes, /) -> object:
        """Append `data`."""
        ...


class _Hashing(io.RawIOBase):
    """A file that is hashed as it is written."""

    def __init__(self, file: SupportsWrite) -> None:
        super().__init__()
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._hash.update(data)
        self.size += len(data)
        self._file.write(data)
        return len(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


class _Noise(io.RawIOBase):
    """A file of noise: nearly all of it cannot be compressed."""

    def __init__(self, source: random.Random) -> None:
        super().__init__()
        self._source = source

    def read(self, size: int = -1) -> bytes:
        assert size > 0
        compressible = size // 16
        return self._source.randbytes(size - compressible) + b"." * compressible


def write_layer(path: Path, size: int, seed: int = 1) -> Descriptor:
    """Write a gzip layer of at least `size` bytes. Memory does not grow with it."""
    source = random.Random(seed)
    with path.open("wb") as file:
        blob = _Hashing(file)
        with igzip.IGzipFile(fileobj=blob, mode="wb", compresslevel=1, mtime=0) as compressed:  # type: ignore[no-untyped-call]
            tar = _Hashing(compressed)
            with tarfile.open(fileobj=tar, mode="w|") as archive:
                number = 0
                while number == 0 or blob.size < size:
                    info = tarfile.TarInfo(f"usr/share/noise/{number}")
                    info.size, info.mtime = min(FILE_SIZE, size), 1_700_000_000
                    archive.addfile(info, _Noise(source))
                    number += 1
    return Descriptor(OCI_LAYER_GZIP, blob.digest, blob.size, annotations={DIFF_ID: tar.digest})


def make_source(path: Path, sizes: Sequence[int], *, empty_layer: bool = False) -> int:
    """Make a saved source of one image.

    Args:
        path: The directory to make.
        sizes: The bytes of each layer, at least.
        empty_layer: Whether to add an uncompressed layer without files.

    Returns:
        The total size of the layers in bytes.
    """
    asyncio.run(_make_layout(path / "oci"))
    blobs = path / "oci" / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    layers = []
    for number, size in enumerate(sizes):
        partial = path / "layer"
        layer = write_layer(partial, size, seed=number + 1)
        partial.rename(blobs / layer.digest.removeprefix("sha256:"))
        layers.append(layer)
    if empty_layer:
        data = bytes(1024)
        digest = digest_bytes(data)
        (blobs / digest.removeprefix("sha256:")).write_bytes(data)
        layers.append(Descriptor(OCI_LAYER, digest, len(data), annotations={DIFF_ID: digest}))
    chain = [
        LayerRecord(f"layer-{number}", f"RUN step {number}", CREATED, layer.to_dict())
        for number, layer in enumerate(layers)
    ]
    write_document(path / "chains.json", ChainsFile([RefRecord(ref="result", chain=chain)]))
    write_document(path / "source.json", SourceFile({"containerimage.config": CONFIG}, ["result"]))
    return sum(layer.size for layer in layers)


async def _make_layout(path: Path) -> None:
    await OCILayout.open(path)
