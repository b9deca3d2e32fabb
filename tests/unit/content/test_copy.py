from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from exporter.content import (
    MemoryStore,
    OCILayout,
    copy_blob,
    copy_blobs,
    copy_chain,
    load_graph,
    must_not_be_distributed,
    read_blob,
    write_blob,
)
from exporter.content.concurrency import map_each
from exporter.content.copy import reading
from exporter.content.files import CHUNK_SIZE
from exporter.errors import DataLossError, InvalidArgumentError, NotFoundError, ResourceExhaustedError
from exporter.image import Descriptor
from exporter.image.media_types import OCI_CONFIG, OCI_INDEX, OCI_LAYER_NONDISTRIBUTABLE_GZIP, OCI_MANIFEST
from tests import builds
from tests.unit.content.images import LAYERS, Hanging, Recorder, describe, image, index, manifest


def _digests(store: MemoryStore) -> list[str]:
    return [blob.digest for blob in store.blobs()]


# --- single blobs ---


async def test_reads_a_blob() -> None:
    assert await read_blob(MemoryStore(b"blob"), describe(b"blob")) == b"blob"


async def test_a_blob_that_was_changed_is_not_read() -> None:
    store = MemoryStore()
    store._blobs[describe(b"blob").digest] = b"blub"
    with pytest.raises(DataLossError):
        await read_blob(store, describe(b"blob"))
    with pytest.raises(DataLossError):
        await copy_blob(MemoryStore(), store, describe(b"blob"))


async def test_a_large_blob_is_not_read_at_all() -> None:
    recorder = Recorder(MemoryStore(b"blob"))
    with pytest.raises(ResourceExhaustedError, match="4 bytes; the limit for blobs in memory is 3"):
        await read_blob(recorder, describe(b"blob"), limit=3)
    assert recorder.reads == []


async def test_an_embedded_blob_is_used_and_verified() -> None:
    embedded = replace(describe(b"blob"), data=b"blob")
    assert await read_blob(MemoryStore(), embedded) == b"blob"
    store = MemoryStore()
    await copy_blob(store, MemoryStore(), embedded)
    assert await read_blob(store, describe(b"blob")) == b"blob"
    with pytest.raises(DataLossError):
        await read_blob(MemoryStore(), replace(embedded, data=b"blub"))


@pytest.mark.parametrize(("offset", "length"), [(0, None), (1, None), (1, 2), (3, 9), (4, 1), (9, None)])
async def test_reads_any_part_wherever_the_blob_is(offset: int, length: int | None) -> None:
    wanted = b"blob"[offset:][:length]
    for provider, descriptor in (
        (MemoryStore(b"blob"), describe(b"blob")),
        (MemoryStore(), replace(describe(b"blob"), data=b"blob")),
    ):
        async with reading(provider, descriptor, offset=offset, length=length) as pieces:
            assert b"".join([piece async for piece in pieces]) == wanted


async def test_the_stream_is_closed_with_the_block() -> None:
    hanging = Hanging(4)
    async with reading(hanging, describe(b"blob")) as pieces:
        await anext(pieces)
        assert hanging.closed == 0
    assert hanging.closed == 1


async def test_writes_a_blob() -> None:
    store = MemoryStore()
    info = await write_blob(store, b"blob", describe(b"blob"))
    assert (info.digest, info.size) == (describe(b"blob").digest, 4)
    with pytest.raises(DataLossError):
        await write_blob(store, b"other", describe(b"blob"))
    assert _digests(store) == [describe(b"blob").digest]


async def test_copies_a_blob_and_tells_how_far_it_is() -> None:
    data = b"x" * (CHUNK_SIZE + 1)
    store, done = MemoryStore(), list[int]()
    await copy_blob(store, MemoryStore(data), describe(data), done.append)
    assert await read_blob(store, describe(data)) == data
    assert done == [CHUNK_SIZE, 1]


async def test_existing_blobs_are_not_copied_again() -> None:
    recorder, done = Recorder(MemoryStore(b"blob")), list[int]()
    await copy_blob(MemoryStore(b"blob"), recorder, describe(b"blob"), done.append)
    assert (recorder.reads, done) == ([], [4])


async def test_a_truncated_blob_is_copied_again() -> None:
    store = MemoryStore()
    store._blobs[describe(b"blob").digest] = b"bl"
    await copy_blob(store, MemoryStore(b"blob"), describe(b"blob"))
    assert await read_blob(store, describe(b"blob")) == b"blob"


async def test_copies_each_blob_once_and_not_too_many_at_once() -> None:
    blobs = [b"%d" % number for number in range(20)]
    recorder, store = Recorder(MemoryStore(*blobs)), MemoryStore()
    await copy_blobs(store, recorder, [*map(describe, blobs), *map(describe, blobs)], concurrency=3)
    assert (
        sorted(recorder.reads) == sorted(_digests(store)) == sorted(describe(blob).digest for blob in blobs)
    )
    assert recorder.most_open == 3


async def test_the_first_failure_is_raised_and_cancels_the_others() -> None:
    hanging = Hanging(1 << 20)
    store = MemoryStore()

    async def copy(descriptor: Descriptor) -> None:
        if descriptor.size == 4:
            await hanging.reading.wait()
            raise NotFoundError("gone")
        await copy_blob(store, hanging, descriptor)

    long = describe(b"x" * (1 << 20))
    with pytest.raises(NotFoundError, match="gone"):
        await map_each([long, describe(b"blob")], copy, 4)
    assert (hanging.closed, store.blobs()) == (1, [])


async def test_cancellation_stops_all_readers(tmp_path: object) -> None:
    hanging, store = Hanging(1 << 20), MemoryStore()
    blobs = [describe(bytes([number]) * (1 << 20)) for number in range(3)]
    task = asyncio.create_task(copy_blobs(store, hanging, blobs, concurrency=3))
    await hanging.reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (hanging.closed, store.blobs()) == (3, [])


# --- images ---


async def test_copies_an_image_children_first() -> None:
    provider, root = image()
    store, done = MemoryStore(), list[int]()
    await copy_chain(store, provider, root, on_bytes=done.append, concurrency=1)
    assert _digests(store) == _digests(provider)
    assert _digests(store)[-1] == root.digest
    assert sum(done) == sum(blob.size for blob in provider.blobs())


async def test_copies_a_recorded_index_with_attestations(tmp_path: object) -> None:
    layout = OCILayout(builds.scenario("provenance-multi-max") / "oci", create=False)
    (root,) = await layout.index()
    store = MemoryStore()
    await copy_chain(store, layout, root)
    assert sorted(_digests(store)) == sorted(blob.digest for blob in await layout.blobs())


async def test_children_come_first_however_an_index_is_nested() -> None:
    provider, first = image("first")
    provider, second = image("second", store=provider)
    inner = index(second)
    outer = index(second, describe(inner, OCI_INDEX), first)
    provider = MemoryStore(*provider._blobs.values(), inner, outer)
    recorder, store = Recorder(provider), MemoryStore()
    await copy_chain(store, recorder, describe(outer, OCI_INDEX))
    order = {digest: place for place, digest in enumerate(_digests(store))}
    for node in await load_graph(store, [describe(outer, OCI_INDEX)]):
        assert all(order[child.digest] < order[node.descriptor.digest] for child in node.children)
    assert set(order) == set(_digests(provider))
    layers = [describe(layer).digest for layer in LAYERS]
    assert [recorder.reads.count(digest) for digest in layers] == [1, 1]


async def test_a_manifest_that_is_also_referenced_as_a_layer_keeps_its_children() -> None:
    provider, inner = image()
    outer = manifest(b"{}", replace(inner, media_type="application/x"))
    root = index(describe(outer, OCI_MANIFEST), inner)
    provider = MemoryStore(*provider._blobs.values(), b"{}", outer, root)
    store = MemoryStore()
    await copy_chain(store, provider, describe(root, OCI_INDEX))
    assert set(_digests(store)) == set(_digests(provider))


async def test_nondistributable_layers_can_be_skipped() -> None:
    foreign = describe(b"foreign", OCI_LAYER_NONDISTRIBUTABLE_GZIP)
    data = manifest(b"{}", foreign, describe(b"layer"))
    root = describe(data, OCI_MANIFEST)
    provider, store = MemoryStore(b"{}", b"layer", data), MemoryStore()
    await copy_chain(store, provider, root, skip=must_not_be_distributed)
    assert set(_digests(store)) == set(_digests(provider))
    with pytest.raises(NotFoundError, match=foreign.digest):
        await copy_chain(MemoryStore(), provider, root)


async def test_manifests_get_labels_that_keep_their_children() -> None:
    class Labels(MemoryStore):
        def ingest(self, expected=None, *, labels=None):  # type: ignore[no-untyped-def]
            seen[expected.digest] = labels
            return super().ingest(expected, labels=labels)

    provider, root = image()
    seen: dict[str, dict[str, str] | None] = {}
    await copy_chain(Labels(), provider, root)
    config, *layers, _ = _digests(provider)
    labels = seen.pop(root.digest)
    assert labels is not None
    assert list(labels.values()) == [config, *layers]
    assert set(seen.values()) == {None}


async def test_a_missing_blob_leaves_no_manifest() -> None:
    provider, root = image()
    del provider._blobs[describe(LAYERS[1]).digest]
    store = MemoryStore()
    with pytest.raises(NotFoundError, match=describe(LAYERS[1]).digest):
        await copy_chain(store, provider, root)
    assert root.digest not in _digests(store)


async def test_a_malformed_manifest_copies_nothing() -> None:
    data = manifest(b"{}", Descriptor(OCI_CONFIG, "sha256:../../x", 3))
    store = MemoryStore()
    with pytest.raises(InvalidArgumentError, match=r"layers\[0\]"):
        await copy_chain(store, MemoryStore(b"{}", data), describe(data, OCI_MANIFEST))
    assert store.blobs() == []


async def test_nesting_is_not_limited_by_the_stack() -> None:
    data = index()
    blobs = [data]
    for _ in range(1200):
        data = index(describe(data, OCI_INDEX))
        blobs.append(data)
    store = MemoryStore()
    await copy_chain(store, MemoryStore(*blobs), describe(data, OCI_INDEX))
    assert _digests(store) == [describe(blob).digest for blob in blobs]


async def test_a_blob_as_large_as_the_limit_is_read() -> None:
    assert await read_blob(MemoryStore(b"blob"), describe(b"blob"), limit=4) == b"blob"


async def test_a_missing_manifest_is_an_error_unless_the_caller_allows_it() -> None:
    missing = describe(b"{}", OCI_MANIFEST)
    with pytest.raises(NotFoundError):
        await load_graph(MemoryStore(), [missing])
    (node,) = await load_graph(MemoryStore(), [missing], missing_ok=True)
    assert node.children == ()


async def test_a_graph_has_all_its_roots_in_their_order() -> None:
    roots = [describe(text) for text in (b"one", b"two", b"three")]
    assert [node.descriptor for node in await load_graph(MemoryStore(), roots)] == roots
