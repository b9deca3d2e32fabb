"""Images in containerd: complete, named, and as BuildKit has them."""

from __future__ import annotations

import asyncio

import pytest

from exporter.content.copy import load_graph
from exporter.errors import NotFoundError
from exporter.exporters.base import ExportResult
from exporter.image import digest_bytes
from exporter.remotes.containerd import Containerd
from exporter.source.types import Source
from tests.builds import read_json, scenario_names
from tests.integration.containerd.exporting import CONFIG, Namespace
from tests.unit.exporters.harness import FakeLayer, make_ref

IMAGES = [
    name
    for name in scenario_names(daemon="buildkit")
    if read_json(name, "scenario.json")["exporter"]["type"] == "image"
    and read_json(name, "scenario.json")["exporter"]["attrs"].get("store") != "false"
    # The daemon had its base image's layers pulled by the export.
    and name != "lazy-image-nohistory"
]
ARCHIVES = ["docker-types", "multi-platform", "provenance-multi-max", "provenance-slsa-v02", "sbom", "zstd"]


def attributes(name: str) -> dict[str, str]:
    recorded = read_json(name, "scenario.json")
    resolved = recorded.get("exporter_as_resolved") or [recorded["exporter"]]
    return {key: value for key, value in (resolved[0]["attrs"] or {}).items() if key != "push"}


async def blobs_of(place: Namespace, result: ExportResult) -> set[str]:
    """All parts of the exported image, as containerd has them."""
    assert result.descriptor is not None
    async with Containerd.connect(place.peer.config(place.name)) as connection:
        return {node.descriptor.digest for node in await load_graph(connection.content, [result.descriptor])}


@pytest.mark.parametrize("name", [*IMAGES, *ARCHIVES])
async def test_recorded_builds(place: Namespace, name: str) -> None:
    """The image is complete, and nothing else is left. (Other tests compare it with BuildKit's.)"""
    attrs = {"name": "example.com/image:1", **attributes(name)}
    result = await place.export(name, attrs)
    names = result.response["image.name"].split(",")
    digest = result.response["containerimage.digest"]
    assert {image: place.images()[image] for image in names} == dict.fromkeys(names, digest)
    assert set(place.check().values()) == {"complete"}
    assert place.blobs() == await blobs_of(place, result)
    assert (place.leases(), place.writes()) == (set(), set())


@pytest.mark.parametrize("name", ["ctd-names", "ctd-dangling-only"])
async def test_names_are_those_of_buildkit(place: Namespace, name: str) -> None:
    result = await place.export(name, attributes(name))
    recorded = {
        image["name"]: image["digest"]
        for image in read_json(name, "image_store.json")["images"]
        if image["digest"] == result.response["containerimage.digest"]
    }
    assert place.images() == recorded
    naming = [status for status in place.statuses if status.startswith("naming to ")]
    assert naming == [f"naming to {target}" for target in result.response["image.name"].split(",")]


async def test_an_oci_export_without_a_destination_is_stored_in_containerd(place: Namespace) -> None:
    result = await place.export("names-oci", {"name": "example.com/a:1"}, exporter="oci")
    assert place.images() == {"example.com/a:1": result.response["containerimage.digest"]}
    assert place.check() == {"example.com/a:1": "complete"}


async def test_a_name_moves_and_keeps_its_labels(place: Namespace) -> None:
    first = await place.export("run-chain", {"name": "example.com/a:1"})
    place.ctr("images", "label", "example.com/a:1", "owner=somebody")
    second = await place.export("multi-stage", {"name": "example.com/a:1"})
    assert first.response["containerimage.digest"] != second.response["containerimage.digest"]
    assert place.images() == {"example.com/a:1": second.response["containerimage.digest"]}
    assert "owner=somebody" in place.ctr("images", "ls")


async def test_repeating_an_export_changes_nothing(place: Namespace) -> None:
    first = await place.export("run-chain", {"name": "example.com/a:1"})
    blobs = place.blobs()
    assert await place.export("run-chain", {"name": "example.com/a:1"}) == first
    assert place.blobs() == blobs


async def test_concurrent_exports_take_turns_with_a_name(place: Namespace) -> None:
    names = {"name": "example.com/a:1,example.com/b:1"}
    sources = [
        Source(
            ref=make_ref([FakeLayer(b"base" * 1000), FakeLayer(b"%d" % number)]),
            metadata={"containerimage.config": CONFIG},
        )
        for number in range(6)
    ]
    places = [
        Namespace(place.peer, place.name, place.directory / str(number)) for number in range(len(sources))
    ]
    for item in places:
        item.directory.mkdir()
    results = await asyncio.gather(
        *(item.export(source, names) for item, source in zip(places, sources, strict=True))
    )
    images = place.images()
    assert images.keys() == {"example.com/a:1", "example.com/b:1"}
    assert set(images.values()) <= {result.response["containerimage.digest"] for result in results}
    assert set(place.check().values()) == {"complete"}
    assert (place.leases(), place.writes()) == (set(), set())


async def test_layers_are_labelled_with_their_diff_ids_and_sources(place: Namespace) -> None:
    key = "containerd.io/distribution.source.example.com"
    layers = [FakeLayer(b"base", annotations={key: "library/base"}), FakeLayer(b"top")]
    source = Source(ref=make_ref(layers), metadata={"containerimage.config": CONFIG})
    await place.export(source, {"name": "a"})
    base, top = digest_bytes(b"base"), digest_bytes(b"top")
    assert place.labels(base) == {"containerd.io/uncompressed": base, key: "library/base"}
    assert place.labels(top) == {"containerd.io/uncompressed": top}


async def test_existing_blobs_get_missing_labels(place: Namespace) -> None:
    """Another client's manifest without labels would not protect its children."""
    result = await place.export("run-chain", {"name": "a"})
    digest = result.response["containerimage.digest"]
    expected = place.labels(digest)
    for key in expected:
        place.ctr("content", "label", digest, f"{key}=")
    place.ctr("content", "label", digest, "owner=somebody")
    await place.export("run-chain", {"name": "b"})
    assert place.labels(digest) == {**expected, "owner": "somebody"}


async def test_each_manifest_keeps_its_children(place: Namespace) -> None:
    result = await place.export("provenance-multi-max", {"name": "a"})
    assert result.descriptor is not None
    async with Containerd.connect(place.peer.config(place.name)) as connection:
        nodes = await load_graph(connection.content, [result.descriptor])
    for node in nodes:
        labels = place.labels(node.descriptor.digest).items()
        kept = [value for key, value in labels if key.startswith("containerd.io/gc.ref.content.")]
        assert sorted(kept) == sorted(child.digest for child in node.children)


async def test_a_missing_layer_fails_the_export(place: Namespace) -> None:
    present, absent = FakeLayer(b"present"), FakeLayer(b"absent")
    ref = make_ref([present, absent])
    remote = await ref.remote()
    del remote.provider._blobs[digest_bytes(b"absent")]  # type: ignore[attr-defined]
    with pytest.raises(NotFoundError, match=digest_bytes(b"absent")):
        await place.export(Source(ref=ref, metadata={"containerimage.config": CONFIG}), {"name": "a"})
    assert (place.images(), place.leases(), place.writes()) == ({}, set(), set())


async def test_names_are_taken_as_they_are(place: Namespace) -> None:
    """The client completes them; containerd takes any."""
    result = await place.export("run-chain", {"name": "short,With Blank"})
    digest = result.response["containerimage.digest"]
    async with Containerd.connect(place.peer.config(place.name)) as connection:
        assert (await connection.images.resolve("short")).digest == digest
        assert (await connection.images.resolve("With Blank")).digest == digest
        with pytest.raises(NotFoundError, match="image long"):
            await connection.images.resolve("long")
