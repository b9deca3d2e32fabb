"""Exports into containerd that fail: what they leave, and that they can be repeated."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.content.memory import MemoryStore
from exporter.errors import DataLossError, UnavailableError
from exporter.image import digest_bytes
from exporter.source.types import Source
from tests.integration.containerd.exporting import CONFIG, Namespace, PausedExport
from tests.integration.containerd_peer import ContainerdPeer, containerd
from tests.unit.exporters.harness import FakeLayer, make_ref
from tests.unit.layer.tars import entry, tar

SLOW = b"slow" * (1 << 20)


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Namespace]:
    """In a containerd that the test may kill."""
    with containerd() as peer:
        yield Namespace(peer, "mortal", tmp_path)


def nothing_left(place: Namespace) -> None:
    assert (place.images(), place.leases(), place.writes()) == ({}, set(), set())
    place.collect()
    assert place.blobs() == set()


async def begin(place: Namespace) -> PausedExport:
    return await PausedExport.begin(place, SLOW, [b"written" * 100])


async def test_a_cancelled_export_leaves_nothing(place: Namespace) -> None:
    export = await begin(place)
    assert (len(place.leases()), len(place.writes())) == (1, 1)
    export.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await export.task
    nothing_left(place)


async def test_an_export_that_loses_its_source_leaves_nothing(place: Namespace) -> None:
    export = await begin(place)
    export.provider.error = UnavailableError("the session has ended")
    with pytest.raises(UnavailableError, match="the session has ended"):
        await export.finish()
    nothing_left(place)


async def test_damaged_layers_are_refused(place: Namespace) -> None:
    layer = FakeLayer(b"as it should be")
    store = MemoryStore()
    store._blobs[digest_bytes(layer.data)] = b"as it should BE"
    source = Source(ref=make_ref([layer], provider=store), metadata={"containerimage.config": CONFIG})
    with pytest.raises(DataLossError, match=digest_bytes(layer.data)):
        await place.export(source, {"name": "a"})
    nothing_left(place)


async def test_a_containerd_that_dies_is_unavailable_and_the_export_can_be_repeated(
    mortal: Namespace,
) -> None:
    export = await begin(mortal)
    mortal.peer.kill()
    with pytest.raises(UnavailableError):
        await export.finish()
    mortal.peer.start()
    # It could not be told that the export has failed.
    assert (mortal.images(), len(mortal.leases())) == ({}, 1)
    await (await begin(mortal)).finish()
    mortal.collect()
    assert mortal.check() == {"a": "complete"}
    assert (len(mortal.leases()), mortal.writes()) == (1, set())


async def test_an_unreachable_containerd_is_reported(tmp_path: Path, peer: ContainerdPeer) -> None:
    place = Namespace(ContainerdPeer(tmp_path), "default", tmp_path)
    with pytest.raises(UnavailableError, match=re.escape(f"containerd at {tmp_path}/s")):
        await place.export("run-chain", {"name": "a"})


async def test_a_wrong_diff_id_is_noticed_when_the_layer_is_unpacked(place: Namespace) -> None:
    good, other = tar(entry("a", b"1")), tar(entry("b", b"2"))
    layers = [
        FakeLayer(good),
        FakeLayer(other, annotations={"containerd.io/uncompressed": digest_bytes(b"something else")}),
    ]
    source = Source(ref=make_ref(layers), metadata={"containerimage.config": CONFIG})
    with pytest.raises(DataLossError, match=f"layer {digest_bytes(other)} has the diff ID"):
        await place.export(source, {"name": "a", "unpack": "true"})
    assert place.leases() == set()
    # The lower layer was unpacked well, but nothing holds its snapshot now: containerd may have collected it.
    assert place.snapshots().items() <= {digest_bytes(good): "Committed"}.items()
    place.collect()
    assert place.snapshots() == {}


async def test_a_blob_that_is_not_a_layer_is_not_unpacked(place: Namespace) -> None:
    source = Source(ref=make_ref([FakeLayer(b"no tar" * 200)]), metadata={"containerimage.config": CONFIG})
    with pytest.raises(Exception, match=f"layer {digest_bytes(b'no tar' * 200)}: "):
        await place.export(source, {"name": "a", "unpack": "true"})
    assert (place.snapshots(), place.leases()) == ({}, set())
