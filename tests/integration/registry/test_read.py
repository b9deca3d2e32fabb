"""Reading back from a real docker-registry."""

from __future__ import annotations

import pytest

from exporter.content import BlobInfo, MemoryStore, copy_chain, read_blob
from exporter.errors import DataLossError, InvalidArgumentError, NotFoundError, UnavailableError
from exporter.image import Descriptor, Reference, digest_bytes
from exporter.image.media_types import OCI_INDEX, OCI_LAYER
from exporter.remotes.registry.repository import Repository, open_repository
from tests.integration.registry.pushing import Peer, noise
from tests.integration.registry_peer import Fault
from tests.unit.content.images import index

BIG = 3 << 20


async def pushed(peer: Peer) -> tuple[Descriptor, Descriptor]:
    """An index in the registry, and one of its layers."""
    layer = await peer.add(noise(BIG))
    image = await peer.add_image(layer, await peer.add(b""))
    root = await peer.add(index(image), OCI_INDEX)
    await peer.push(root, "app:v1")
    return root, layer


async def read(repository: Repository, digest: str, offset: int = 0, length: int | None = None) -> bytes:
    return b"".join([data async for data in repository.read(digest, offset=offset, length=length)])


async def test_a_pushed_image_can_be_read(peer: Peer) -> None:
    root, _ = await pushed(peer)
    reference = Reference.parse(peer.name("app:v1"))
    async with open_repository(reference, options=peer.options) as repository:
        assert await repository.resolve("v1") == root
        assert await repository.resolve(root.digest) == root
        copied = MemoryStore()
        await copy_chain(copied, repository, root)
    assert {blob.digest for blob in copied.blobs()} == {blob.digest for blob in peer.store.blobs()}


@pytest.mark.parametrize(
    ("offset", "length"), [(0, None), (0, 0), (0, 10), (5, 10), (BIG - 3, None), (BIG - 3, 100), (BIG, None)]
)
async def test_any_range_can_be_read(peer: Peer, offset: int, length: int | None) -> None:
    root, layer = await pushed(peer)
    data = noise(BIG)
    end = None if length is None else offset + length
    async with open_repository(Reference.parse(peer.name("app")), options=peer.options) as repository:
        assert await read(repository, layer.digest, offset, length) == data[offset:end]
        manifest = await read(repository, root.digest)
        assert await read(repository, root.digest, 5, 10) == manifest[5:15]


async def test_sizes_and_missing_blobs(peer: Peer) -> None:
    root, layer = await pushed(peer)
    async with open_repository(Reference.parse(peer.name("app")), options=peer.options) as repository:
        for descriptor in (root, layer):
            assert await repository.info(descriptor.digest) == BlobInfo(descriptor.digest, descriptor.size)
        with pytest.raises(NotFoundError, match="app has no sha256:"):
            await repository.info(digest_bytes(b"?"))


async def test_reading_resumes_after_a_lost_connection(peer: Peer) -> None:
    _, layer = await pushed(peer)
    peer.proxy.faults.append(Fault("GET", "/blobs/", cut_answer=1_000_000, times=2))
    async with open_repository(Reference.parse(peer.name("app")), options=peer.options) as repository:
        assert await read_blob(repository, layer) == noise(BIG)
        assert await read(repository, layer.digest, 10, 20) == noise(BIG)[10:30]
    first, second, third, last = (seen.headers.get("Range") for seen in peer.proxy.of("GET", "/blobs/"))
    assert first is None
    begins = [int((header or "").removeprefix("bytes=").rstrip("-")) for header in (second, third)]
    assert 0 < begins[0] < begins[1] <= 2_000_000
    assert last == "bytes=10-29"


async def test_reading_fails_after_too_many_lost_connections(peer: Peer) -> None:
    _, layer = await pushed(peer)
    peer.proxy.faults.append(Fault("GET", "/blobs/", cut_answer=0, times=100))
    async with open_repository(Reference.parse(peer.name("app")), options=peer.options) as repository:
        with pytest.raises(UnavailableError, match=f"reading {layer.digest} from .*/app"):
            await read_blob(repository, layer)


async def test_missing_images(peer: Peer) -> None:
    reference = Reference.parse(peer.name("none"))
    async with open_repository(reference, options=peer.options) as repository:
        with pytest.raises(NotFoundError, match="resolving v1 in .*MANIFEST_UNKNOWN"):
            await repository.resolve("v1")
        with pytest.raises(NotFoundError, match="answered 404"):
            await read(repository, digest_bytes(b"?"))
        with pytest.raises(InvalidArgumentError):
            await read(repository, "sha256:../../etc")


async def test_a_manifest_that_was_changed(peer: Peer) -> None:
    root, _ = await pushed(peer)
    body = b'{"schemaVersion": 2}'
    peer.proxy.faults.append(Fault("GET", "/manifests/", status=200, body=body, times=10))
    async with open_repository(Reference.parse(peer.name("app")), options=peer.options) as repository:
        with pytest.raises(DataLossError, match=f"registry sent {digest_bytes(body)}"):
            await repository.resolve(root.digest)
        with pytest.raises(DataLossError):
            await read_blob(repository, root)


async def test_a_registry_that_ignores_ranges(peer: Peer) -> None:
    data = noise(200_000)
    peer.proxy.faults.append(Fault("GET", "/blobs/", status=200, body=data, times=10))
    async with open_repository(Reference.parse(peer.name("app")), options=peer.options) as repository:
        digest = Descriptor(OCI_LAYER, digest_bytes(data), len(data)).digest
        for offset, length in ((0, None), (70_000, 100), (150_000, None), (199_999, 10), (300_000, 5)):
            end = None if length is None else offset + length
            assert await read(repository, digest, offset, length) == data[offset:end]
