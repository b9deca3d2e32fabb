"""Where layers come from, and where output goes: a daemon and a server in processes of their own."""

from __future__ import annotations

import asyncio
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from exporter.content.copy import copy_chain
from exporter.content.layout import OCILayout
from exporter.content.memory import MemoryStore
from exporter.image import Descriptor, digest_bytes
from exporter.pb.buildkit.exporter.v1 import exporter_pb2 as pb
from tests.builds import read_json, scenario
from tests.integration.fakedaemon.harness import Daemon, Server, alive, nothing_left
from tests.integration.fakedaemon.requests import (
    attested_request,
    export_request,
    inline_ref,
    layer_digests,
    saved_request,
)

pytestmark = pytest.mark.timeout(300)

BUILD = "run-chain"
MOBY_BUILD = "moby-run-chain"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server.running("--session-timeout", "30") as running:
        yield running


@pytest.fixture
async def daemon(server: Server) -> AsyncIterator[Daemon]:
    async with Daemon.connected(server.address) as connected:
        yield connected


async def test_an_inline_ref_needs_no_session(server: Server, daemon: Daemon) -> None:
    request = export_request("moby", inline_ref(b"one", b"two"), id=3, attrs={"name": "app:v1"})
    outcome = await daemon.export(request)
    assert outcome.code == "OK"
    assert outcome.response["image.name"] == "docker.io/library/app:v1"
    image_id = outcome.response["containerimage.config.digest"]
    assert {image_id, *layer_digests(request)} <= await server.blobs()
    assert isinstance(outcome.result, pb.ExportResult)
    assert outcome.result.descriptor.digest == image_id
    digests = {vertex.digest for vertex in outcome.vertexes}
    assert digests == {""}, "the export's own, which only the daemon knows"
    assert outcome.vertexes[0].HasField("started")
    assert outcome.vertexes[-1].HasField("completed")
    assert not outcome.vertexes[-1].error
    assert not outcome.token


async def test_inline_blobs_are_read_through_the_session(server: Server, daemon: Daemon) -> None:
    request = await saved_request(scenario(MOBY_BUILD), "moby", inline=True, session="s")
    assert not any(descriptor.data for descriptor in request.source.ref.inline.descriptors)
    await daemon.do("attach", session="s", saved=str(scenario(MOBY_BUILD)), all_blobs=True)
    outcome = await daemon.export(request)
    assert (
        outcome.response["containerimage.config.digest"] == read_json(MOBY_BUILD, "result.json")["image_id"]
    )
    # Now the store has them, and no session is needed any more.
    await daemon.do("detach", session="s")
    request.build.session_id = ""
    assert (await daemon.export(request)).response == outcome.response


async def test_chain_and_blobs_are_fetched_by_callback(server: Server, daemon: Daemon) -> None:
    before = await alive(daemon)
    await daemon.do("attach", session="s", saved=str(scenario(MOBY_BUILD)))
    request = await saved_request(
        scenario(MOBY_BUILD), "moby", inline=False, session="s", attrs={"name": "x"}
    )
    outcome = await daemon.export(request)
    image_id = read_json(MOBY_BUILD, "result.json")["image_id"]
    assert outcome.response["containerimage.config.digest"] == image_id, "byte for byte dockerd's"
    assert {vertex.digest for vertex in outcome.vertexes} == {""}
    statuses = [status for message in outcome.progress for status in message.statuses]
    assert statuses
    assert {status.vertex for status in statuses} == {""}
    assert all(status.HasField("timestamp") and status.HasField("started") for status in statuses)
    await daemon.do("detach", session="s")
    await nothing_left(server, daemon, before)


async def test_content_of_attestations_is_requested_after_the_layers(daemon: Daemon) -> None:
    build = scenario("provenance-multi-max")
    await daemon.do("attach", session="s", saved=str(build))
    given = await attested_request(build, "image", late=False, session="s")
    expected = (await daemon.export(given)).response
    assert not [event for event in daemon.events if event["event"] == "attestation"]
    daemon.events.clear()
    late = await attested_request(build, "image", late=True, session="s")
    assert not any(
        attestation.HasField("content")
        for attestations in late.source.attestations.values()
        for attestation in attestations.attestations
    )
    outcome = await daemon.export(late)
    assert outcome.response["containerimage.digest"] == expected["containerimage.digest"]
    steps = [event["event"] for event in daemon.events]
    assert steps.count("attestation") == len(late.source.attestations)
    assert steps == sorted(steps, reverse=True), "all layers first"


async def test_late_content_without_a_session(daemon: Daemon) -> None:
    request = await attested_request(scenario("provenance-multi-max"), "image", late=True, session="")
    outcome = await daemon.export(request)
    assert outcome.code == "FAILED_PRECONDITION"
    assert (outcome.field or "").endswith(".content_id")


async def test_a_session_may_attach_after_its_request(server: Server, daemon: Daemon) -> None:
    request = await saved_request(scenario(MOBY_BUILD), "moby", inline=False, session="late")
    export = asyncio.create_task(daemon.export(request))
    await asyncio.sleep(0.2)
    assert not export.done()
    await daemon.do("attach", session="late", saved=str(scenario(MOBY_BUILD)))
    assert (await export).code == "OK"


async def test_a_session_that_never_attaches() -> None:
    async with (
        Server.running("--session-timeout", "0.2") as impatient,
        Daemon.connected(impatient.address) as client,
    ):
        outcome = await client.export(export_request("moby", pb.Ref(id="r"), session="nobody"))
    assert (outcome.code, outcome.reason) == ("UNAVAILABLE", "UNAVAILABLE")
    assert "nobody" in outcome.message
    assert outcome.vertexes[-1].error, "the vertex says so, too"


async def test_a_ref_without_an_owner_is_refused(daemon: Daemon) -> None:
    outcome = await daemon.export(export_request("moby", pb.Ref(id="r1")))
    assert (outcome.code, outcome.field) == ("FAILED_PRECONDITION", "source.ref")
    await daemon.do("attach", session="s", files={})
    outcome = await daemon.export(export_request("moby", pb.Ref(id="r1"), session="s"))
    assert (outcome.code, outcome.field) == ("FAILED_PRECONDITION", "source.ref")


async def test_a_ref_that_the_session_does_not_know(daemon: Daemon) -> None:
    await daemon.do("attach", session="s", saved=str(scenario(MOBY_BUILD)))
    outcome = await daemon.export(export_request("moby", pb.Ref(id="other"), session="s"))
    assert outcome.code == "NOT_FOUND"
    assert "other" in outcome.message


@pytest.mark.parametrize("gate", ["remote", "chain", "read", "read-on"])
async def test_a_session_that_is_lost_during_an_export(server: Server, daemon: Daemon, gate: str) -> None:
    before = await alive(daemon)
    blobs = await server.blobs()
    await daemon.do("attach", session="s", saved=str(scenario(MOBY_BUILD)))
    await daemon.do("close_gate", gate=gate)
    request = await saved_request(
        scenario(MOBY_BUILD), "moby", inline=False, session="s", attrs={"name": "x"}
    )
    export = asyncio.create_task(daemon.export(request))
    await daemon.event(event="reached", gate=gate)
    await daemon.do("detach", session="s")
    outcome = await export
    assert outcome.code == "UNAVAILABLE", outcome
    await nothing_left(server, daemon, before)
    if gate in {"remote", "read"}:
        assert await server.blobs() == blobs


@pytest.mark.parametrize("flavor", ["moby", "oci"])
async def test_a_blob_with_a_wrong_digest(
    server: Server, daemon: Daemon, flavor: str, tmp_path: Path
) -> None:
    before = await alive(daemon)
    request = await saved_request(
        scenario(MOBY_BUILD), flavor, inline=False, session="s", attrs={"name": "wrong"}
    )
    described = await saved_request(scenario(MOBY_BUILD), flavor, inline=True)
    digest = layer_digests(described)[-1]
    size = described.source.ref.inline.descriptors[-1].size
    wrong, place = tmp_path / "wrong", tmp_path / "out.tar"
    wrong.write_bytes(b"\xff" * size)
    await daemon.do(
        "attach",
        session="s",
        saved=str(scenario(MOBY_BUILD)),
        replaced={digest: str(wrong)},
        files={"0": str(place)},
    )
    outcome = await daemon.export(request)
    assert outcome.code == "DATA_LOSS", outcome.message
    assert digest in outcome.message
    assert digest not in await server.blobs()
    assert not place.exists()
    assert not (server.root / "docker" / "tags.json").exists()
    await daemon.do("detach", session="s")
    await nothing_left(server, daemon, before)


async def test_an_embedded_blob_with_a_wrong_digest(server: Server, daemon: Daemon) -> None:
    blobs = await server.blobs()
    ref = inline_ref(b"right")
    ref.inline.descriptors[0].data = b"wrong"
    outcome = await daemon.export(export_request("moby", ref))
    assert outcome.code == "DATA_LOSS", outcome.message
    assert await server.blobs() == blobs


async def test_a_chain_that_does_not_fit_the_layers(server: Server, daemon: Daemon) -> None:
    ref = inline_ref(b"one", b"two")
    del ref.inline.chain[1:]
    outcome = await daemon.export(export_request("moby", ref))
    assert (outcome.code, outcome.field) == ("FAILED_PRECONDITION", "source.ref.inline.chain")
    await daemon.do("attach", session="s", saved=str(scenario(MOBY_BUILD)), drop_layer=True)
    request = await saved_request(
        scenario(MOBY_BUILD), "moby", inline=False, session="s", attrs={"name": "x"}
    )
    outcome = await daemon.export(request)
    assert (outcome.code, outcome.field) == ("FAILED_PRECONDITION", "source.ref.chain")
    assert not (server.root / "docker" / "tags.json").exists()


def unpack(archive: Path, directory: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(directory)


async def test_a_file_goes_through_the_session(server: Server, daemon: Daemon, tmp_path: Path) -> None:
    place = tmp_path / "out.tar"
    await daemon.do("attach", session="s", saved=str(scenario(BUILD)), files={"2": str(place)})
    request = await saved_request(
        scenario(BUILD), "oci", inline=False, session="s", attrs={"name": "app"}, id=2
    )
    outcome = await daemon.export(request)
    recorded = read_json(BUILD, "result.json")
    assert outcome.response["containerimage.digest"] == recorded["root_descriptor"]["digest"]
    unpack(place, tmp_path / "layout")
    layout = await OCILayout.open(tmp_path / "layout", create=False)
    image = await layout.resolve("docker.io/library/app:latest")
    assert image.digest == recorded["root_descriptor"]["digest"]
    await copy_chain(MemoryStore(), layout, image)  # complete, and every blob verified
    headers = (await daemon.event(event="file"))["headers"]
    assert headers["buildkit-attachable-exporter-id"] == "2"
    assert headers["exporter-md-containerimage.digest"] == image.digest
    assert headers["exporter-md-image.name"] == "docker.io/library/app:latest"


async def test_a_large_file_arrives_whole(server: Server, daemon: Daemon, tmp_path: Path) -> None:
    content = bytes(range(256)) * (40 << 10)  # 10 MiB: many messages
    place = tmp_path / "out.tar"
    await daemon.do("attach", session="s", files={"0": str(place)})
    outcome = await daemon.export(export_request("oci", inline_ref(content), session="s"))
    assert outcome.code == "OK", outcome.message
    unpack(place, tmp_path / "layout")
    blob = tmp_path / "layout" / "blobs" / "sha256" / digest_bytes(content).removeprefix("sha256:")
    assert blob.read_bytes() == content


async def test_a_file_that_the_client_does_not_want(server: Server, daemon: Daemon) -> None:
    content = b"x" * (3 << 20)
    await daemon.do("attach", session="s", files={})
    outcome = await daemon.export(export_request("oci", inline_ref(content), session="s"))
    assert outcome.code == "OK", outcome.message
    assert outcome.response["containerimage.digest"]


async def test_a_file_that_the_client_cannot_take(server: Server, daemon: Daemon) -> None:
    content = b"x" * (3 << 20)
    await daemon.do("attach", session="s", files={"0": "!RESOURCE_EXHAUSTED"})
    outcome = await daemon.export(export_request("oci", inline_ref(content), session="s"))
    assert outcome.code == "RESOURCE_EXHAUSTED", outcome.message
    assert "the client's trouble" in outcome.message


async def test_a_client_that_takes_no_files(server: Server, daemon: Daemon) -> None:
    await daemon.do("attach", session="s", saved=str(scenario(BUILD)))
    request = await saved_request(scenario(BUILD), "tar", inline=False, session="s")
    outcome = await daemon.export(request)
    assert outcome.code == "FAILED_PRECONDITION"
    assert "no client accepts them" in outcome.message


async def test_a_session_that_dies_while_a_file_is_sent(
    server: Server, daemon: Daemon, tmp_path: Path
) -> None:
    content = b"x" * (64 << 20)  # more than all the buffers on the way
    assert (await daemon.export(export_request("moby", inline_ref(content)))).code == "OK"
    before = await alive(daemon)
    await daemon.do("attach", session="s", files={"0": str(tmp_path / "out.tar")})
    await daemon.do("close_gate", gate="file")
    request = export_request("oci", inline_ref(content, embedded=False), session="s")
    export = asyncio.create_task(daemon.export(request))
    await daemon.event(event="reached", gate="file")
    await daemon.do("detach", session="s")
    assert (await export).code == "UNAVAILABLE"
    assert not (tmp_path / "out.tar").exists()
    await nothing_left(server, daemon, before)


async def test_a_layout_goes_through_the_session(server: Server, daemon: Daemon, tmp_path: Path) -> None:
    await daemon.do("attach", session="s", saved=str(scenario(BUILD)), layout=str(tmp_path / "layout"))
    request = await saved_request(scenario(BUILD), "oci", inline=False, session="s", attrs={"tar": "false"})
    outcome = await daemon.export(request)
    recorded = read_json(BUILD, "result.json")["root_descriptor"]
    assert outcome.response["containerimage.digest"] == recorded["digest"]
    layout = await OCILayout.open(tmp_path / "layout")
    root = Descriptor(recorded["mediaType"], recorded["digest"], recorded["size"])
    await copy_chain(MemoryStore(), layout, root)
    assert await layout.index() == (), "index.json is the client's to write"


async def test_endpoints_need_the_operators_permission(daemon: Daemon, tmp_path: Path) -> None:
    ref = pb.Ref(id="r", endpoint=f"unix://{tmp_path}/refs.sock")
    outcome = await daemon.export(export_request("moby", ref))
    assert (outcome.code, outcome.field) == ("PERMISSION_DENIED", "source.ref.endpoint")
    outcome = await daemon.export(export_request("moby", pb.Ref(id="r", endpoint="file:///etc/passwd")))
    assert (outcome.code, outcome.field) == ("INVALID_ARGUMENT", "source.ref.endpoint")


async def test_an_allowed_endpoint_is_dialled() -> None:
    async with Server.running("--allow-endpoint", "unix:///tmp/*/*") as server:
        endpoint = f"unix://{server.directory}/refs"
        async with Daemon.connected(server.address) as daemon:
            await daemon.do("serve", address=f"unix:{server.directory}/refs", saved=str(scenario(MOBY_BUILD)))
            before = await alive(daemon)
            for inline in (False, True):
                request = await saved_request(scenario(MOBY_BUILD), "moby", inline=inline)
                request.source.ref.endpoint = endpoint
                outcome = await daemon.export(request)
                image_id = read_json(MOBY_BUILD, "result.json")["image_id"]
                assert outcome.response["containerimage.config.digest"] == image_id
            request.source.ref.endpoint = f"unix://{server.directory}/nobody"
            request.source.ref.ClearField("inline")
            assert (await daemon.export(request)).code == "UNAVAILABLE"
            await nothing_left(server, daemon, before)


async def test_a_bug_in_an_exporter_is_reported_as_internal(daemon: Daemon, server: Server) -> None:
    outcome = await daemon.export(export_request("test-crashing"))
    assert outcome.code == "INTERNAL"
    text = 'the exporter "test-crashing" of test-exporters 1.0 has failed: ZeroDivisionError: a bug'
    assert outcome.message == outcome.vertexes[-1].error == text
    await server.logged("code=INTERNAL")


async def test_unknown_types_and_bad_attributes(daemon: Daemon) -> None:
    outcome = await daemon.export(export_request("mobi"))
    assert (outcome.code, outcome.field) == ("NOT_FOUND", "type")
    for attrs in ({"name": "UPPER/Case"}, {"source-date-epoch": "x"}, {"compression": "lzma"}):
        outcome = await daemon.export(export_request("oci", attrs=attrs))
        resolved = await daemon.do("resolve", type="oci", attrs=attrs)
        if resolved["code"] != "OK":
            assert resolved["code"] == outcome.code == "INVALID_ARGUMENT", outcome
            assert resolved["message"] == outcome.message


async def test_large_metadata_and_attestations_fit(server: Server, daemon: Daemon) -> None:
    request = export_request("moby", inline_ref(b"one"), config={"os": "linux", "architecture": "amd64"})
    request.source.metadata["containerimage.buildinfo"] = b"x" * (20 << 20)
    request.source.attestations["linux/amd64"].attestations.add(content=b"{}" * (5 << 20), path="sbom.json")
    assert (await daemon.export(request)).code == "OK"


async def test_a_request_above_the_size_limit_is_refused() -> None:
    async with (
        Server.running("--max-message-bytes", "100000") as server,
        Daemon.connected(server.address) as daemon,
    ):
        request = export_request("moby", inline_ref(b"x" * 200_000))
        assert (await daemon.export(request)).code == "RESOURCE_EXHAUSTED"


async def test_a_long_error_reaches_the_caller(daemon: Daemon) -> None:
    config = json.dumps({"os": "linux", "architecture": "amd64", "history": [{"created": "é" * 50_000}]})
    request = export_request("moby", inline_ref(b"one"))
    request.source.metadata["containerimage.config"] = config.encode()
    outcome = await daemon.export(request)
    assert outcome.code == "INVALID_ARGUMENT"
    assert outcome.message.startswith("failed to unmarshal history from config: parsing time")


async def test_converted_layers_are_kept_for_the_next_export(server: Server, daemon: Daemon) -> None:
    request = export_request(
        "oci", inline_ref(b"\0" * 10240), attrs={"compression": "zstd", "force-compression": "true"}
    )
    first = await daemon.export(request)
    assert first.code == "OK", first.message
    assert list((server.root / "layers" / "records").rglob("*.*")), "in the layer cache"
    assert (await daemon.export(request)).response["containerimage.config.digest"] == first.response[
        "containerimage.config.digest"
    ]
