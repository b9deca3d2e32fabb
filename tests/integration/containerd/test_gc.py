"""What containerd's garbage collector removes, and what it must keep."""

from __future__ import annotations

import datetime

from exporter.content.copy import write_blob
from exporter.image import Descriptor, digest_bytes
from exporter.remotes.containerd import Containerd
from tests.integration.containerd.exporting import Namespace, PausedExport

LAYER = "application/vnd.oci.image.layer.v1.tar"


async def ingest(place: Namespace, data: bytes) -> str:
    """Add an unreferenced blob."""
    async with Containerd.connect(place.peer.config(place.name)) as connection:
        info = await write_blob(connection.content, data, Descriptor(LAYER, digest_bytes(data), len(data)))
    return info.digest


async def test_gc_keeps_an_image_with_all_its_parts_and_nothing_else(place: Namespace) -> None:
    for name in ("provenance-multi-max", "run-chain"):
        await place.export(name, {"name": f"example.com/{name}:1"})
    blobs = place.blobs()
    async with Containerd.connect(place.peer.config(place.name)) as connection, connection.leased() as store:
        data = b"nobody's"
        other = await write_blob(store, data, Descriptor(LAYER, digest_bytes(data), len(data)))
        assert place.blobs() == blobs | {other.digest}  # it may go as soon as the lease has ended
    place.ctr("content", "prune", "references")
    place.collect()
    assert place.blobs() == blobs
    assert set(place.check().values()) == {"complete"}


async def test_an_image_is_collected_after_its_last_name(place: Namespace) -> None:
    await place.export("multi-platform", {"name": "a,b", "unpack": "true"})
    place.ctr("images", "rm", "--sync", "a")
    assert place.check() == {"b": "complete"}
    place.ctr("images", "rm", "--sync", "b")
    assert (place.blobs(), place.snapshots()) == (set(), {})


async def test_an_image_without_a_name_is_kept_for_as_long_as_the_export(place: Namespace) -> None:
    await place.export("run-chain", {})
    place.collect()
    assert place.blobs() == set()


async def test_nothing_is_collected_during_an_export(place: Namespace) -> None:
    """Neither the blobs that it has written nor existing ones that it reuses."""
    found = await ingest(place, b"found" * 100)
    export = await PausedExport.begin(place, b"slow" * 100, [b"found" * 100, b"written" * 100])
    place.collect()
    assert {found, digest_bytes(b"written" * 100)} <= place.blobs()
    await export.finish()
    place.collect()
    assert place.check() == {"a": "complete"}


async def test_a_lease_expires_when_its_owner_has_died(place: Namespace) -> None:
    export = await PausedExport.begin(place, b"slow" * 100, [])
    [lease] = place.peer.rows(place.name, "leases", "ls")
    expires = datetime.datetime.fromisoformat(lease.rpartition("containerd.io/gc.expire=")[2].strip())
    left = expires - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(hours=23) < left <= datetime.timedelta(hours=24)
    await export.finish()
    assert place.leases() == set()


async def test_snapshots_are_kept_by_their_image(place: Namespace) -> None:
    await place.export("run-chain", {"name": "a", "unpack": "true"})
    place.ctr("content", "prune", "references")
    place.collect()
    assert list(place.snapshots().values()) == ["Committed"] * 6
    place.ctr("images", "rm", "--sync", "a")
    assert place.snapshots() == {}
