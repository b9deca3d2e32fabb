"""Exports of recorded builds that end in a real docker-registry: in one process, and through a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from exporter.content import MemoryStore, copy_chain
from exporter.image import Reference, digest_bytes
from exporter.remotes.registry.repository import open_repository
from tests.builds import read_json, scenario
from tests.integration import cli_process, commands
from tests.integration.cli_process import Result
from tests.integration.fakedaemon.harness import Daemon, Server, alive, nothing_left
from tests.integration.fakedaemon.requests import saved_request
from tests.integration.registry.pushing import UPLOADS, Peer
from tests.integration.registry_peer import Fault
from tests.peers import require

Export = Callable[..., Awaitable[Result]]

NOT_SOON = {"Retry-After": "3600"}
"""With these headers a failure is final: nobody waits so long."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cli_process.server(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(params=["here", "on a server"])
def export(request: pytest.FixtureRequest, tmp_path: Path) -> Export:
    """Run an export of a recorded build from the command line."""
    place = ["--root", str(tmp_path / "root")]
    if request.param == "on a server":
        place = ["--addr", request.getfixturevalue("address")]

    async def export(build: str, output: str, *words: str) -> Result:
        fixed = ["export", "--source", str(scenario(build)), "--progress", "plain", *place, "-o", output]
        return await asyncio.to_thread(cli_process.run, tmp_path, *fixed, *words)

    return export


def recorded_digest(build: str) -> str:
    """Of the image that the real daemon made."""
    digest: str = read_json(build, "result.json")["exporter_response"]["containerimage.digest"]
    return digest


def names(peer: Peer, *rest: str) -> str:
    """A field of ``--output`` with several names."""
    return '"name=' + ",".join(peer.name(name) for name in rest) + '"'


@pytest.mark.parametrize("output", ["type=image,push=true", "type=registry"])
@pytest.mark.parametrize("build", ["run-chain", "multi-platform", "provenance-multi-max"])
async def test_an_image_arrives_whole(
    export: Export, peer: Peer, build: str, output: str, tmp_path: Path
) -> None:
    metadata = tmp_path / "metadata.json"
    output = f"{output},name={peer.name('team/app:v1')}"
    result = await export(build, output, "--metadata-file", str(metadata))
    assert result.status == 0, result.err
    response = json.loads(metadata.read_bytes())
    assert response["image.name"] == peer.name("team/app:v1")
    digest = response["containerimage.digest"]
    assert await peer.digest_of("team/app", "v1") == digest
    if build != "provenance-multi-max":  # whose statements tell the name
        assert digest == recorded_digest(build)

    skopeo, source = require("skopeo", "skopeo"), f"docker://{peer.upstream}/team/app:v1"
    raw = await commands.run(skopeo, "inspect", "--tls-verify=false", "--raw", source)
    assert digest_bytes(raw) == digest
    copy = (skopeo, "--insecure-policy", "copy", "-q", "--all", "--src-tls-verify=false")
    await commands.run(*copy, source, f"dir:{tmp_path / 'copied'}")
    assert digest_bytes((tmp_path / "copied" / "manifest.json").read_bytes()) == digest

    copied = MemoryStore()
    async with open_repository(Reference.parse(peer.name("team/app")), options=peer.options) as repository:
        await copy_chain(copied, repository, await repository.resolve("v1"))
    recorded = list((scenario(build) / "oci" / "blobs" / "sha256").iterdir())
    assert len(list(copied.blobs())) == len(recorded)


async def test_the_blobs_of_a_second_name_are_mounted(export: Export, peer: Peer) -> None:
    output = f"type=registry,{names(peer, 'one/app:a', 'two/app', 'one/app:b')}"
    result = await export("run-chain", output)
    assert result.status == 0, result.err
    digest = recorded_digest("run-chain")
    for name in (("one/app", "a"), ("two/app", "latest"), ("one/app", "b")):
        assert await peer.digest_of(*name) == digest
    _, _, manifest = await peer.get("one/app/manifests/a")
    blobs = {blob["digest"] for blob in (json.loads(manifest)["config"], *json.loads(manifest)["layers"])}
    mounts = peer.proxy.of("POST", "^/v2/two/app/blobs/uploads/[?]mount=sha256:.*&from=one/app$")
    assert [seen.status for seen in mounts] == [201] * len(blobs)
    assert len(peer.proxy.of("POST", "^/v2/two/app" + UPLOADS)) == len(blobs)
    assert peer.proxy.of("PATCH", "^/v2/two/app/") == []
    assert len(peer.proxy.of("PATCH", "^/v2/one/app/")) == len(blobs)
    pushed = [line for line in result.err.splitlines() if "pushing manifest for" in line and "done" in line]
    assert len(pushed) == 3


async def test_pushing_by_digest_sets_no_tag(export: Export, peer: Peer) -> None:
    result = await export("run-chain", f"type=registry,push-by-digest=true,name={peer.name('app')}")
    assert result.status == 0, result.err
    assert await peer.digest_of("app", recorded_digest("run-chain")) == recorded_digest("run-chain")
    assert await peer.tags("app") == []
    result = await export("run-chain", f"type=registry,push-by-digest=true,name={peer.name('app:v1')}")
    assert result.status == 2
    assert f"can't push tagged ref {peer.name('app:v1')} by digest" in result.err


async def test_canonical_names_are_stored_and_not_pushed(peer: Peer, tmp_path: Path) -> None:
    name, digest = peer.name("app:v1"), recorded_digest("run-chain")
    words = ("--source", str(scenario("run-chain")), "--root", str(tmp_path / "root"))
    output = f"type=image,push=true,name-canonical=true,name={name}"
    result = await asyncio.to_thread(cli_process.run, tmp_path, "export", *words, "-o", output)
    assert result.status == 0, result.err
    assert await peer.tags("app") == ["v1"]
    shown = await asyncio.to_thread(cli_process.run, tmp_path, "inspect", str(tmp_path / "root"), "--json")
    [image] = json.loads(shown.out)["images"]
    assert set(image["names"]) == {name, f"{name}@{digest}"}


@pytest.mark.parametrize(
    ("method", "path"), [("POST", UPLOADS), ("PATCH", UPLOADS), ("PUT", UPLOADS), ("PUT", "/manifests/")]
)
async def test_transient_failures_are_retried(export: Export, peer: Peer, method: str, path: str) -> None:
    peer.proxy.faults.append(Fault(method, path, status=503))
    result = await export("run-chain", f"type=registry,name={peer.name('app:v1')}")
    assert result.status == 0, result.err
    assert await peer.digest_of("app", "v1") == recorded_digest("run-chain")
    assert "answered 503" in result.err
    assert "retrying in" in result.err


async def test_permanent_failures_move_no_name(export: Export, peer: Peer) -> None:
    name = peer.name("app:v1")
    assert (await export("scratch-copy", f"type=registry,name={name}")).status == 0
    peer.proxy.faults.append(Fault("PUT", UPLOADS, status=503, headers=NOT_SOON, times=1000))
    result = await export("run-chain", f"type=registry,name={name}")
    assert result.status == 1
    assert f"error: failed to push {name}: " in result.err
    assert "try again after that" in result.err
    assert await peer.digest_of("app", "v1") == recorded_digest("scratch-copy")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with Server.running() as running:
        yield running


@pytest.fixture
async def daemon(server: Server) -> AsyncIterator[Daemon]:
    async with Daemon.connected(server.address) as connected:
        yield connected


async def begin(daemon: Daemon, peer: Peer, build: str, *rest: str) -> str:
    """Export an image that is to be pushed under these names; gives the token."""
    await daemon.do("attach", session=build, saved=str(scenario(build)))
    attrs = {"name": ",".join(peer.name(name) for name in rest), "push": "true"}
    request = await saved_request(scenario(build), "image", inline=False, session=build, attrs=attrs)
    outcome = await daemon.export(request)
    await daemon.do("detach", session=build)
    return outcome.token


async def test_finalize_after_an_outage(server: Server, daemon: Daemon, peer: Peer) -> None:
    """The first try finds no registry at all, the second loses it between two names, the third succeeds."""
    old, new = recorded_digest("scratch-copy"), recorded_digest("multi-platform")
    rest = ("one:v1", "two:v2")
    assert (await daemon.finalize(await begin(daemon, peer, "scratch-copy", *rest))).code == "OK"
    before = await alive(daemon)
    token = await begin(daemon, peer, "multi-platform", *rest)
    assert [await peer.digest_of("one", "v1"), await peer.digest_of("two", "v2")] == [old, old]

    healthy = peer.proxy.check
    peer.proxy.check = lambda _: web.Response(status=503, headers=NOT_SOON)
    outcome = await daemon.finalize(token)
    assert outcome.code == "UNAVAILABLE"
    assert f"failed to push {peer.name('one:v1')}: " in outcome.message
    assert outcome.vertexes[-1].error
    assert [await peer.digest_of("one", "v1"), await peer.digest_of("two", "v2")] == [old, old]

    peer.proxy.check = healthy
    # The images of an index come before the index, which alone has the name.
    peer.proxy.faults.append(Fault("PUT", "^/v2/two/manifests/sha256:", status=503, headers=NOT_SOON))
    outcome = await daemon.finalize(token)
    assert outcome.code == "UNAVAILABLE"
    assert f"failed to push {peer.name('two:v2')}: " in outcome.message
    assert [await peer.digest_of("one", "v1"), await peer.digest_of("two", "v2")] == [new, old]

    sent = len(peer.proxy.seen)
    assert (await daemon.finalize(token)).code == "OK"
    assert [await peer.digest_of("one", "v1"), await peer.digest_of("two", "v2")] == [new, new]
    again = peer.proxy.seen[sent:]
    assert {seen.method for seen in again if seen.path.startswith("/v2/one/")} == {"HEAD"}
    assert not any(seen.method in {"POST", "PATCH"} for seen in again), "the blobs are there"
    await nothing_left(server, daemon, before)
