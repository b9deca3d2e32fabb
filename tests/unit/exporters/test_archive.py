from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from exporter.content.memory import MemoryStore
from exporter.content.protocol import BlobInfo
from exporter.errors import DataLossError, InvalidArgumentError, NotFoundError
from exporter.exporters.archive import plan_archive
from exporter.image import Descriptor, digest_bytes, index_bytes
from exporter.image.media_types import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
)

LAYER = b"layer " * 1000
CONFIG = b'{"os":"linux"}'


class ListSink:
    """Records what is written to it."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    async def write(self, data: bytes) -> None:
        self.pieces.append(data)

    async def commit(self) -> None:
        raise AssertionError("the archive must leave that to the exporter")


def put(store: MemoryStore, media_type: str, data: bytes) -> Descriptor:
    digest = digest_bytes(data)
    store._blobs[digest] = data
    return Descriptor(media_type, digest, len(data))


def make_manifest(config: Descriptor, *layers: Descriptor) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.to_dict(),
        "layers": [layer.to_dict() for layer in layers],
    }
    return json.dumps(document).encode()


def make_image(store: MemoryStore) -> Descriptor:
    config = put(store, OCI_CONFIG, CONFIG)
    layer = put(store, OCI_LAYER, LAYER)
    return put(store, OCI_MANIFEST, make_manifest(config, layer, layer))


async def archive_of(
    store: MemoryStore, root: Descriptor, *names: str, docker_manifest: bool = False
) -> dict[str, bytes]:
    sink = ListSink()
    archive = await plan_archive(store, root, names, docker_manifest=docker_manifest)
    await archive.write(sink)
    with tarfile.open(fileobj=io.BytesIO(b"".join(sink.pieces)), mode="r:") as tar:
        entries = tar.getmembers()
        assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)
        return {
            entry.name: tar.extractfile(entry).read()  # type: ignore[union-attr]
            for entry in entries
            if entry.isfile()
        }


async def test_archive_is_a_layout() -> None:
    store = MemoryStore()
    root = make_image(store)
    files = await archive_of(store, root)
    assert set(files) == {
        "oci-layout",
        "index.json",
        *(f"blobs/{blob.digest.replace(':', '/')}" for blob in store.blobs()),
    }
    assert files["oci-layout"] == b'{"imageLayoutVersion":"1.0.0"}'
    assert json.loads(files["index.json"])["manifests"] == [root.to_dict()]


@pytest.mark.parametrize(
    ("name", "ref_name"),
    [
        ("docker.io/library/app:v1", "v1"),
        ("localhost:5000/app:v1", "v1"),
        (f"example.com/app:v1@sha256:{'a' * 64}", f"v1@sha256:{'a' * 64}"),
        (f"example.com/app@sha256:{'a' * 64}", f"example.com/app@sha256:{'a' * 64}"),
    ],
)
async def test_names_are_annotations(name: str, ref_name: str) -> None:
    store = MemoryStore()
    root = replace(make_image(store), annotations={"kept": "yes"})
    files = await archive_of(store, root, name, "docker.io/library/other:latest")
    first, second = json.loads(files["index.json"])["manifests"]
    assert first["annotations"] == {
        "io.containerd.image.name": name,
        "kept": "yes",
        "org.opencontainers.image.ref.name": ref_name,
    }
    assert second["annotations"]["io.containerd.image.name"] == "docker.io/library/other:latest"


async def test_docker_manifest() -> None:
    store = MemoryStore()
    root = make_image(store)
    files = await archive_of(
        store, root, "docker.io/library/app:v1", "example.com/app:v2", docker_manifest=True
    )
    layer = f"blobs/{digest_bytes(LAYER).replace(':', '/')}"
    assert json.loads(files["manifest.json"]) == [
        {
            "Config": f"blobs/{digest_bytes(CONFIG).replace(':', '/')}",
            "RepoTags": ["app:v1", "example.com/app:v2"],
            "Layers": [layer, layer],
        }
    ]


async def test_docker_manifest_without_names_and_layers() -> None:
    store = MemoryStore()
    config = put(store, OCI_CONFIG, CONFIG)
    root = put(store, OCI_MANIFEST, make_manifest(config))
    files = await archive_of(store, root, docker_manifest=True)
    path = config.digest.replace(":", "/")
    assert files["manifest.json"] == b'[{"Config":"blobs/%b","RepoTags":null,"Layers":null}]' % path.encode()


async def test_an_index_has_no_docker_manifest() -> None:
    store = MemoryStore()
    manifest = make_image(store)
    root = put(store, OCI_INDEX, index_bytes([manifest]))
    files = await archive_of(store, root, docker_manifest=True)
    assert "manifest.json" not in files
    assert f"blobs/{manifest.digest.replace(':', '/')}" in files


async def test_other_digest_algorithms() -> None:
    """Names that are too long for a plain header, and one directory per algorithm."""
    store = MemoryStore()
    digest = f"sha512:{hashlib.sha512(LAYER).hexdigest()}"
    store._blobs[digest] = LAYER
    config = put(store, OCI_CONFIG, CONFIG)
    root = put(store, OCI_MANIFEST, make_manifest(config, Descriptor(OCI_LAYER, digest, len(LAYER))))
    sink = ListSink()
    await (await plan_archive(store, root, (), docker_manifest=False)).write(sink)
    with tarfile.open(fileobj=io.BytesIO(b"".join(sink.pieces)), mode="r:") as tar:
        assert [entry.name for entry in tar if entry.isdir()] == ["blobs", "blobs/sha256", "blobs/sha512"]
        member = tar.getmember(f"blobs/{digest.replace(':', '/')}")
        assert tar.extractfile(member).read() == LAYER  # type: ignore[union-attr]


async def test_progress_counts_all_content() -> None:
    store = MemoryStore()
    archive = await plan_archive(store, make_image(store), (), docker_manifest=True)
    counted: list[int] = []
    await archive.write(ListSink(), counted.append)
    assert sum(counted) == archive.size


async def test_large_blobs_go_through_in_pieces() -> None:
    size = 40 << 20

    class Zeros:
        """A provider of a blob that is never in memory."""

        def __init__(self, other: MemoryStore, digest: str) -> None:
            self._other = other
            self._digest = digest

        async def info(self, digest: str) -> BlobInfo:
            return BlobInfo(digest, size)

        async def read(
            self, digest: str, *, offset: int = 0, length: int | None = None
        ) -> AsyncIterator[bytes]:
            if digest != self._digest:
                async for data in self._other.read(digest):
                    yield data
                return
            for _ in range(size >> 20):
                yield bytes(1 << 20)

    digest = f"sha256:{hashlib.sha256(bytes(size)).hexdigest()}"
    store = MemoryStore()
    root = put(
        store,
        OCI_MANIFEST,
        make_manifest(put(store, OCI_CONFIG, CONFIG), Descriptor(OCI_LAYER, digest, size)),
    )

    class MeasuringSink(ListSink):
        largest = 0

        async def write(self, data: bytes) -> None:
            self.largest = max(self.largest, len(data))

    sink = MeasuringSink()
    archive = await plan_archive(Zeros(store, digest), root, (), docker_manifest=False)
    await archive.write(sink)
    assert sink.largest < 2 << 20


async def test_damaged_blob() -> None:
    store = MemoryStore()
    root = make_image(store)
    archive = await plan_archive(store, root, (), docker_manifest=False)
    store._blobs[digest_bytes(LAYER)] = LAYER[:-1] + b"!"
    with pytest.raises(DataLossError):
        await archive.write(ListSink())


async def test_missing_blob() -> None:
    store = MemoryStore()
    root = make_image(store)
    archive = await plan_archive(store, root, (), docker_manifest=False)
    del store._blobs[digest_bytes(LAYER)]
    with pytest.raises(NotFoundError):
        await archive.write(ListSink())


async def test_only_images_are_archived() -> None:
    store = MemoryStore()
    layer = put(store, OCI_LAYER, LAYER)
    with pytest.raises(InvalidArgumentError, match="only manifests may be exported"):
        await plan_archive(store, layer, (), docker_manifest=False)
