"""Small images for tests, and providers with special behaviour."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from exporter.content import BlobInfo, MemoryStore, Provider
from exporter.image import Descriptor, digest_bytes
from exporter.image.media_types import (
    DOCKER_CONFIG,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
)

LAYERS = (b"the first layer", b"the second layer")


def describe(data: bytes, media_type: str = OCI_LAYER_GZIP) -> Descriptor:
    return Descriptor(media_type, digest_bytes(data), len(data))


def to_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def manifest(config: bytes, *layers: Descriptor) -> bytes:
    return to_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": describe(config, OCI_CONFIG).to_dict(),
            "layers": [layer.to_dict() for layer in layers],
        }
    )


def index(*manifests: Descriptor) -> bytes:
    return to_json(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [item.to_dict() for item in manifests]}
    )


def image(name: str = "", *, store: MemoryStore | None = None) -> tuple[MemoryStore, Descriptor]:
    """A store with an image of two layers (in addition to what is in it), and the image's descriptor."""
    config = to_json({"os": "linux", "architecture": "amd64", "author": name})
    data = manifest(config, *map(describe, LAYERS))
    blobs = [] if store is None else list(store._blobs.values())
    return MemoryStore(*blobs, config, *LAYERS, data), describe(data, OCI_MANIFEST)


def docker_image(*layers: bytes) -> tuple[bytes, list[Descriptor]]:
    """A config and layers (uncompressed) that fit, as the moby exporter has them."""
    diff_ids = [digest_bytes(layer) for layer in layers]
    config = to_json({"rootfs": {"type": "layers", "diff_ids": diff_ids}})
    return config, [
        Descriptor(OCI_LAYER, digest, len(layer), annotations={"containerd.io/uncompressed": digest})
        for digest, layer in zip(diff_ids, layers, strict=True)
    ]


def docker_config(config: bytes) -> Descriptor:
    return describe(config, DOCKER_CONFIG)


def names_in(path: Path) -> list[str]:
    """The names in a directory, sorted."""
    return sorted(item.name for item in path.iterdir())


def files_below(path: Path) -> dict[str, bytes]:
    """All files and their contents. Directories are there, too: their names end in a slash."""
    return {
        f"{item.relative_to(path)}/" if item.is_dir() else str(item.relative_to(path)): (
            b"" if item.is_dir() else item.read_bytes()
        )
        for item in sorted(path.rglob("*"))
    }


class Recorder:
    """A provider that notes what is read, and how many readers there are at once."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self.reads: list[str] = []
        self.open = 0
        self.most_open = 0

    async def info(self, digest: str) -> BlobInfo:
        return await self._provider.info(digest)

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        self.reads.append(digest)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await asyncio.sleep(0)
            async for data in self._provider.read(digest, offset=offset, length=length):
                yield data
        finally:
            self.open -= 1


class Hanging:
    """A provider whose readers wait forever after the first piece. `reading` is set once somebody waits."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.reading = asyncio.Event()
        self.closed = 0

    async def info(self, digest: str) -> BlobInfo:
        return BlobInfo(digest, self._size)

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        try:
            yield b"x"
            self.reading.set()
            await asyncio.Event().wait()
        finally:
            self.closed += 1
