"""Pushing into a real docker-registry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from exporter.errors import (
    InvalidArgumentError,
)
from exporter.image import digest_bytes
from exporter.image.media_types import DOCKER_LAYER_FOREIGN_GZIP, IN_TOTO, OCI_INDEX
from tests.integration.commands import run
from tests.integration.registry.pushing import UPLOADS, Peer, noise
from tests.integration.registry_peer import Fault
from tests.peers import require
from tests.unit.content.images import describe, index

BIG = 5 << 20


async def test_an_image_is_pushed_under_its_name(peer: Peer, tmp_path: Path) -> None:
    layers = [await peer.add(noise(size, size)) for size in (0, 1, 3000, 2 << 20)]
    root = await peer.add_image(*layers)
    await peer.push(root, "group/app:v1")
    assert await peer.digest_of("group/app", "v1") == root.digest
    assert peer.status_ids == [
        "pushing layers",
        f"pushing manifest for {peer.name('group/app:v1')}@{root.digest}",
    ]
    skopeo = require("skopeo", "skopeo")
    source = f"docker://{peer.upstream}/group/app:v1"
    assert digest_bytes(await run(skopeo, "inspect", "--tls-verify=false", "--raw", source)) == root.digest
    target = tmp_path / "copied"
    copy = (skopeo, "--insecure-policy", "copy", "-q", "--src-tls-verify=false")
    await run(*copy, source, f"dir:{target}")
    for layer in layers:
        assert digest_bytes((target / layer.digest.removeprefix("sha256:")).read_bytes()) == layer.digest


async def test_progress_counts_bytes(peer: Peer) -> None:
    root = await peer.add_image(await peer.add(noise(3 << 20)), await peer.add(noise(5000)))
    await peer.push(root)
    statuses = [s for update in peer.updates for s in update.statuses if s.id == "pushing layers"]
    total = sum(blob.size for blob in peer.store.blobs()) - root.size
    assert statuses[-1].completed is not None
    assert (statuses[-1].current, statuses[-1].total) == (total, total)
    assert min(peer.advances) >= 0
    assert len([step for step in peer.advances if step]) >= 5


async def test_an_index_is_pushed_after_its_manifests(peer: Peer) -> None:
    shared = await peer.add(noise(1000))
    images = [await peer.add_image(shared, await peer.add(noise(2000, n)), author=str(n)) for n in (1, 2)]
    statement = await peer.add(b'{"_type": "https://in-toto.io/Statement/v0.1"}', IN_TOTO)
    attestation = await peer.add_image(statement, author="attestation")
    root = await peer.add(index(*images, attestation), OCI_INDEX)
    await peer.push(root, "app:v1")
    assert await peer.digest_of("app", "v1") == root.digest
    for child in (*images, attestation):
        assert await peer.digest_of("app", child.digest) == child.digest
    puts = [seen.path for seen in peer.proxy.of("PUT", "/manifests/")]
    assert puts[-1] == "/v2/app/manifests/v1"
    assert len(puts) == 4
    assert len(peer.proxy.of("POST", UPLOADS)) == len(peer.store.blobs()) - len(puts)


async def test_several_names_and_repositories(peer: Peer) -> None:
    root = await peer.add_image(await peer.add(noise(5000)))
    sources = await peer.push(root, "one:a")
    sources = await peer.push(root, "one:b", sources=sources)
    sent = len(peer.proxy.of("PATCH", ""))
    await peer.push(root, "two:a", sources=sources)
    assert [await peer.digest_of(*name) for name in (("one", "a"), ("one", "b"), ("two", "a"))] == [
        root.digest
    ] * 3
    assert len(peer.proxy.of("PATCH", "")) == sent, "the second repository got its blobs from the first"


async def test_by_digest(peer: Peer) -> None:
    root = await peer.add_image(await peer.add(noise(5000)))
    await peer.push(root, "app", by_digest=True)
    assert await peer.digest_of("app", root.digest) == root.digest
    assert await peer.tags("app") == []
    assert peer.status_ids[-1] == f"pushing manifest for {peer.name('app')}"
    with pytest.raises(InvalidArgumentError, match="can't push tagged ref"):
        await peer.push(root, "app:v1", by_digest=True)


async def test_a_name_with_a_digest_sets_no_tag(peer: Peer) -> None:
    root = await peer.add_image()
    await peer.push(root, f"app@sha256:{'1' * 64}")
    assert await peer.digest_of("app", root.digest) == root.digest
    assert await peer.tags("app") == []


async def test_only_manifests_can_be_pushed(peer: Peer) -> None:
    with pytest.raises(InvalidArgumentError, match="only manifests"):
        await peer.push(await peer.add(b"x"))
    assert peer.proxy.seen == []


async def test_existing_blobs_are_not_sent_again(peer: Peer) -> None:
    root = await peer.add_image(await peer.add(noise(5000)))
    await peer.push(root)
    before = len(peer.proxy.seen)
    await peer.push(root)
    assert {seen.method for seen in peer.proxy.seen[before:]} == {"GET", "HEAD"}


async def test_nondistributable_layers_are_not_pushed(peer: Peer) -> None:
    foreign = replace(describe(b"not here", DOCKER_LAYER_FOREIGN_GZIP), urls=("https://example.com/layer",))
    root = await peer.add_image(await peer.add(noise(100)), foreign)
    await peer.push(root)
    assert await peer.digest_of("app", "v1") == root.digest
    status, _, _ = await peer.get(f"app/blobs/{foreign.digest}")
    assert status == 404


async def test_blobs_are_mounted(peer: Peer) -> None:
    base = await peer.add(noise(BIG))
    await peer.push(await peer.add_image(base), "library/base:v1")
    own = await peer.add(noise(1000, 1))
    root = await peer.add_image(base, own, author="other")
    key = "containerd.io/distribution.source.127.0.0.1"
    sent = len(peer.proxy.of("PATCH", ""))
    await peer.push(root, "team/app:v1", sources={base.digest: {key: "no/such,library/base"}})
    mounts = peer.proxy.of("POST", f"mount={base.digest}")
    assert [seen.status for seen in mounts] == [202, 201]
    assert sum(seen.received for seen in peer.proxy.of("PATCH", "")[sent:]) < BIG
    assert await peer.digest_of("team/app", "v1") == root.digest


@pytest.mark.parametrize("status", [None, 202, 403, 404, 500])
async def test_a_refused_mount_becomes_an_upload(peer: Peer, status: int | None) -> None:
    layer = await peer.add(noise(5000))
    root = await peer.add_image(layer)
    if status is not None:
        peer.proxy.faults.append(Fault("POST", "mount=", status=status, times=100))
    key = "containerd.io/distribution.source.127.0.0.1"
    await peer.push(root, "app:v1", sources={layer.digest: {key: "no/such"}})
    assert peer.proxy.of("POST", "mount=")
    assert await peer.digest_of("app", "v1") == root.digest
