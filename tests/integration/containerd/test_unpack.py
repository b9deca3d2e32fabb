"""``unpack=true``: layers become snapshots."""

from __future__ import annotations

import asyncio
import platform
from pathlib import Path

import pytest

from exporter.image import ImageError, digest_bytes
from exporter.remotes.containerd.unpack import chain_ids
from exporter.source.types import Source
from tests.builds import scenario_names
from tests.integration.containerd.exporting import Namespace
from tests.unit.exporters.harness import FakeLayer, make_ref
from tests.unit.layer.tars import entry, tar

HERE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
CONFIG = b'{"os":"linux","architecture":"%s"}' % HERE.encode()
OTHER = b'{"os":"plan9","architecture":"mips"}'

LOWER = tar(entry("etc/name", b"lower"), entry("etc/kept", b"kept"))
UPPER = tar(entry("etc/name", b"upper"))

amd64_only = pytest.mark.skipif(HERE != "amd64", reason="recorded builds are for amd64")


def source_of(*layers: bytes, config: bytes = CONFIG) -> Source:
    ref = make_ref([FakeLayer(layer) for layer in layers]) if layers else None
    return Source(ref=ref, metadata={"containerimage.config": config})


def unpacked(place: Namespace, snapshotter: str = "overlayfs") -> dict[str, str]:
    rows = place.peer.rows(place.name, "images", "check", "--snapshotter", snapshotter)
    return {row.split()[0]: row.split()[-1] for row in rows}


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
async def test_the_files_are_those_of_the_layers(place: Namespace, snapshotter: str) -> None:
    attrs = {"name": "a:1,b:1", "unpack": "true"}
    result = await place.export(source_of(LOWER, UPPER), attrs, snapshotter=snapshotter)
    assert unpacked(place, snapshotter) == {"a:1": "true", "b:1": "true"}
    chain = chain_ids([digest_bytes(LOWER), digest_bytes(UPPER)])
    assert place.snapshots(snapshotter) == dict.fromkeys(chain, "Committed")
    config = result.response["containerimage.config.digest"]
    assert place.labels(config) == {f"containerd.io/gc.ref.snapshot.{snapshotter}": chain[-1]}
    assert place.leases() == set()
    mount = place.directory / "mount"
    mount.mkdir()
    place.ctr("images", "mount", "--snapshotter", snapshotter, "a:1", str(mount))
    try:
        assert files_in(mount) == {"etc/kept": b"kept", "etc/name": b"upper"}
    finally:
        place.ctr("images", "unmount", str(mount))


def files_in(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


async def test_unpacking_is_reported_after_each_name(place: Namespace) -> None:
    attrs = {"name": "a:1,b:1", "unpack": "true", "name-canonical": "true"}
    result = await place.export(source_of(LOWER), attrs)
    digest = result.response["containerimage.digest"]
    assert place.statuses[-4:] == [
        "naming to a:1",
        f"unpacking to a:1@{digest}",
        "naming to b:1",
        f"unpacking to b:1@{digest}",
    ]
    assert set(unpacked(place).values()) == {"true"}


async def test_snapshots_are_shared(place: Namespace) -> None:
    await place.export(source_of(LOWER), {"name": "a", "unpack": ""})
    before = place.ctr("snapshots", "info", digest_bytes(LOWER))
    await place.export(source_of(LOWER, UPPER), {"name": "b", "unpack": ""})
    assert place.ctr("snapshots", "info", digest_bytes(LOWER)) == before
    assert len(place.snapshots()) == 2
    assert unpacked(place) == {"a": "true", "b": "true"}


async def test_concurrent_exports_unpack_the_same_image(place: Namespace) -> None:
    places = [Namespace(place.peer, place.name, place.directory / str(number)) for number in range(4)]
    for item in places:
        item.directory.mkdir()
    await asyncio.gather(
        *(
            item.export(source_of(LOWER, UPPER), {"name": f"n{number}", "unpack": "true"})
            for number, item in enumerate(places)
        )
    )
    chain = chain_ids([digest_bytes(LOWER), digest_bytes(UPPER)])
    assert place.snapshots() == dict.fromkeys(chain, "Committed")
    assert set(unpacked(place).values()) == {"true"}


async def test_an_image_of_another_platform_is_only_stored(place: Namespace) -> None:
    await place.export(source_of(LOWER, config=OTHER), {"name": "a", "unpack": "true"})
    assert (place.snapshots(), place.statuses[-1]) == ({}, "naming to a")


async def test_an_image_without_layers_is_only_named(place: Namespace) -> None:
    await place.export(source_of(), {"name": "a", "unpack": "true"})
    assert (place.snapshots(), place.statuses[-1]) == ({}, "naming to a")


@amd64_only
@pytest.mark.parametrize(
    "name", ["multi-platform", "provenance-multi-max", "docker-types", "zstd", "estargz"]
)
async def test_recorded_builds(place: Namespace, name: str) -> None:
    assert name in scenario_names()
    await place.export(name, {"name": "a", "unpack": "true"})
    assert unpacked(place) == {"a": "true"}


async def test_layers_that_were_rewritten_cannot_be_unpacked(place: Namespace) -> None:
    attrs = {"name": "a", "unpack": "true", "rewrite-timestamp": "true", "source-date-epoch": "0"}
    text = 'exporter option "rewrite-timestamp" conflicts with "unpack"'
    with pytest.raises(ImageError, match=text):
        await place.export(source_of(LOWER), attrs)
    assert place.images() == {}


async def test_without_a_name_nothing_is_unpacked(place: Namespace) -> None:
    await place.export(source_of(LOWER), {"unpack": "true"})
    assert place.snapshots() == {}
