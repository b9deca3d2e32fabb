"""The server's lifecycle: cancellation, deadlines, load, slow or lost callers, shutdown, listeners."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from exporter.pb.buildkit.exporter.v1 import exporter_pb2 as pb
from exporter.pb.moby.buildkit.v1 import control_pb2, control_pb2_grpc
from tests.builds import read_json, scenario
from tests.certificates import make_certificates
from tests.integration.fakedaemon.harness import Daemon, Server, alive, eventually, nothing_left
from tests.integration.fakedaemon.requests import export_request, inline_ref, saved_request

pytestmark = pytest.mark.timeout(300)

MOBY_BUILD = "moby-run-chain"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server.running("--session-timeout", "30", "--metrics-addr", "127.0.0.1:0") as running:
        yield running


@pytest.fixture
async def daemon(server: Server) -> AsyncIterator[Daemon]:
    async with Daemon.connected(server.address) as connected:
        yield connected


def blocking(control: Path) -> pb.ExportRequest:
    return export_request("test-blocking", attrs={"control": str(control)})


async def test_cancelling_undoes_a_partial_export(server: Server, daemon: Daemon, tmp_path: Path) -> None:
    before, blobs = await alive(daemon), await server.blobs()
    export = asyncio.create_task(daemon.export(blocking(tmp_path), key="it"))
    await eventually((tmp_path / "started").exists)
    assert server.leftovers(), "there is something to leave behind"
    await daemon.do("cancel", key="it")
    assert (await export).code == "CANCELLED"
    await eventually((tmp_path / "stopped").exists)
    await nothing_left(server, daemon, before)
    assert await server.blobs() == blobs
    await server.logged("rpc=Export code=CANCELLED")


@pytest.mark.parametrize("gate", ["remote", "chain", "read", "read-on"])
async def test_cancelling_while_layers_are_received(server: Server, daemon: Daemon, gate: str) -> None:
    await daemon.do("attach", session="s", saved=str(scenario(MOBY_BUILD)))
    before, blobs = await alive(daemon), await server.blobs()
    await daemon.do("close_gate", gate=gate)
    request = await saved_request(
        scenario(MOBY_BUILD), "moby", inline=False, session="s", attrs={"name": "cancelled"}
    )
    export = asyncio.create_task(daemon.export(request, key="it"))
    await daemon.event(event="reached", gate=gate)
    await daemon.do("cancel", key="it")
    assert (await export).code == "CANCELLED"
    await daemon.do("open_gate", gate=gate)
    await nothing_left(server, daemon, before)
    assert await server.blobs() == blobs
    assert not (server.root / "docker" / "tags.json").exists(), "no name was moved"
    # The same export, run to its end, is not disturbed by what went before.
    outcome = await daemon.export(request)
    assert (
        outcome.response["containerimage.config.digest"] == read_json(MOBY_BUILD, "result.json")["image_id"]
    )


async def test_a_deadline_ends_the_work(server: Server, daemon: Daemon, tmp_path: Path) -> None:
    before = await alive(daemon)
    outcome = await daemon.export(blocking(tmp_path), timeout=1.0)
    assert outcome.code == "DEADLINE_EXCEEDED"
    await eventually((tmp_path / "stopped").exists)
    await nothing_left(server, daemon, before)
    await server.logged("rpc=Export code=DEADLINE_EXCEEDED")


async def test_a_daemon_that_vanishes_is_a_cancellation(
    server: Server, daemon: Daemon, tmp_path: Path
) -> None:
    before = await alive(daemon)
    async with Daemon.connected(server.address) as doomed:
        await doomed.do("attach", session="s", saved=str(scenario(MOBY_BUILD)))
        await doomed.do("close_gate", gate="read")
        request = await saved_request(scenario(MOBY_BUILD), "moby", inline=False, session="s")
        exports = [
            asyncio.create_task(doomed.export(blocking(tmp_path))),
            asyncio.create_task(doomed.export(request)),
        ]
        await eventually((tmp_path / "started").exists)
        await doomed.event(event="reached", gate="read")
        await doomed.kill()
        await asyncio.wait(exports)
    await eventually((tmp_path / "stopped").exists)
    await nothing_left(server, daemon, before)


async def test_two_hundred_exports_at_once(server: Server, daemon: Daemon) -> None:
    before = await alive(daemon)
    await daemon.do("attach", session="s", saved=str(scenario(MOBY_BUILD)))
    saved = await saved_request(scenario(MOBY_BUILD), "moby", inline=False, session="s")
    requests = []
    for number in range(200):
        if number % 2:
            request = export_request("moby", inline_ref(b"shared", f"own {number}".encode()))
        else:
            request = pb.ExportRequest()
            request.CopyFrom(saved)
        request.id = number
        request.attrs["name"] = f"app:{number}"
        requests.append(request)
    outcomes = await asyncio.gather(*(daemon.export(request) for request in requests))
    assert {outcome.code for outcome in outcomes} == {"OK"}
    image_id = read_json(MOBY_BUILD, "result.json")["image_id"]
    for number, outcome in enumerate(outcomes):
        found = outcome.response["containerimage.config.digest"]
        assert (found == image_id) == (number % 2 == 0)
    tags = json.loads((server.root / "docker" / "tags.json").read_bytes())
    assert set(tags) == {f"docker.io/library/app:{number}" for number in range(200)}
    assert all({vertex.digest for vertex in outcome.vertexes} == {""} for outcome in outcomes), "its own"
    await daemon.do("detach", session="s")
    # Threads of the pool and connections may stay; nothing that belongs to an export does.
    await nothing_left(server, daemon, before)


async def test_exports_above_the_limit_are_queued_and_say_so(tmp_path: Path) -> None:
    limits = ("--max-concurrent-exports", "1", "--max-queued-exports", "1")
    async with Server.running(*limits) as server, Daemon.connected(server.address) as daemon:
        first = asyncio.create_task(daemon.export(blocking(tmp_path), key="first"))
        await eventually((tmp_path / "started").exists)
        second = asyncio.create_task(daemon.export(export_request("moby"), key="second"))
        third = asyncio.create_task(daemon.export(export_request("moby"), key="third"))
        done, _ = await asyncio.wait((second, third), return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().code for task in done] == ["RESOURCE_EXHAUSTED"]
        (tmp_path / "go").touch()
        assert (await first).code == "OK"
        (waiting,) = {second, third} - done
        outcome = await waiting
        assert outcome.code == "OK"
        statuses = [status.ID for message in outcome.progress for status in message.statuses]
        assert any("waiting for other exports" in status for status in statuses)


async def test_a_slow_reader_costs_no_memory(server: Server, daemon: Daemon, tmp_path: Path) -> None:
    request = export_request("test-chatty", attrs={"control": str(tmp_path)})
    baseline = int((await daemon.export(request)).response["peak-kib"])
    (tmp_path / "talked").unlink()
    export = asyncio.create_task(daemon.export(request, key="slow", hold=True))
    await eventually((tmp_path / "talked").exists)
    await daemon.do("read", key="slow")
    outcome = await export
    # 20 MB of output and 200,000 statuses went by unread.
    assert int(outcome.response["peak-kib"]) - baseline < 20_000
    last = [status for message in outcome.progress for status in message.statuses][-1]
    assert (last.current, last.total) == (200_000, 200_000)
    assert last.HasField("completed")
    logged = b"".join(log.msg for message in outcome.progress for log in message.logs)
    assert b"the reader was too slow" in logged


async def test_a_shutdown_waits_for_a_running_export(tmp_path: Path) -> None:
    async with Server.running() as server, Daemon.connected(server.address) as daemon:
        export = asyncio.create_task(daemon.export(blocking(tmp_path)))
        await eventually((tmp_path / "started").exists)
        server.signal(signal.SIGTERM)
        await server.logged("shutting down")
        refused = await daemon.export(export_request("moby"))
        assert refused.code == "UNAVAILABLE"
        (tmp_path / "go").touch()
        outcome = await export
        assert outcome.response == {"blocked": "no more"}
        assert await server.ended() == 0
        assert not server.leftovers()
        assert not list((server.root / "scratch").glob("server-*"))
        assert not (server.directory / "s").exists()


@pytest.mark.parametrize("end", ["second signal", "grace"])
async def test_a_shutdown_cancels_an_export_that_does_not_end(tmp_path: Path, end: str) -> None:
    grace = "600" if end == "second signal" else "0.2"
    async with (
        Server.running("--shutdown-grace", grace) as server,
        Daemon.connected(server.address) as daemon,
    ):
        export = asyncio.create_task(daemon.export(blocking(tmp_path)))
        await eventually((tmp_path / "started").exists)
        server.signal(signal.SIGTERM)
        await server.logged("shutting down")
        if end == "second signal":
            server.signal(signal.SIGINT)
        outcome = await export
        assert outcome.code == "UNAVAILABLE"
        assert outcome.vertexes[-1].error
        assert await server.ended() == 0
        assert (tmp_path / "stopped").exists()
        assert not server.leftovers()


async def test_a_session_does_not_hold_up_a_shutdown(server: Server, daemon: Daemon) -> None:
    await daemon.do("attach", session="s", saved=str(scenario(MOBY_BUILD)))
    assert await server.stop() == 0


async def test_a_killed_servers_socket_and_scratch_are_taken_over(tmp_path: Path) -> None:
    async with Server.running() as killed:
        async with Daemon.connected(killed.address) as daemon:
            export = asyncio.create_task(daemon.export(blocking(tmp_path)))
            await eventually((tmp_path / "started").exists)
            killed.process.kill()
            assert (await export).code == "UNAVAILABLE"
            await killed.process.wait()
        assert killed.leftovers()
        async with (
            Server.running(directory=killed.directory) as server,
            Daemon.connected(server.address) as daemon,
        ):
            assert (await daemon.export(export_request("moby"))).code == "OK"
            assert not server.leftovers()


async def test_a_living_servers_socket_is_left_alone(server: Server, daemon: Daemon) -> None:
    with pytest.raises(AssertionError, match="another process listens"):
        async with Server.running(directory=server.directory):
            pass
    assert (await daemon.export(export_request("moby"))).code == "OK"


async def test_a_file_in_the_sockets_place_is_left_alone(tmp_path: Path) -> None:
    async with Server.running() as server:
        file = server.directory / "file"
        file.write_text("precious")
        with pytest.raises(AssertionError, match="is not a socket"):
            async with Server.running("--addr", f"unix://{file}"):
                pass
        assert file.read_text() == "precious"


async def test_only_the_owner_can_connect(server: Server) -> None:
    mode = (server.directory / "s").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert stat.S_IMODE(server.root.stat().st_mode) == 0o700


async def test_plain_tcp_is_for_loopback_only() -> None:
    with pytest.raises(AssertionError, match="without TLS"):
        async with Server.running("--addr", "tcp://0.0.0.0:0"):
            pass
    async with Server.running("--addr", "tcp://0.0.0.0:0", "--insecure-listen") as server:
        assert (await server.bound("tcp")).startswith("0.0.0.0:")
    async with (
        Server.running("--addr", "tcp://127.0.0.1:0") as server,
        Daemon.connected(await server.bound("tcp")) as daemon,
    ):
        assert (await daemon.export(export_request("moby"))).code == "OK"


async def test_a_port_is_not_shared_with_another_server() -> None:
    async with Server.running("--addr", "tcp://127.0.0.1:0") as server:
        port = (await server.bound("tcp")).rpartition(":")[2]
        with pytest.raises(AssertionError, match="cannot listen"):
            async with Server.running("--addr", f"tcp://127.0.0.1:{port}"):
                pass


async def test_tls_and_client_certificates(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    flags = (
        "--addr",
        "tcp://localhost:0",
        "--tlscert",
        f"{tmp_path}/server.pem",
        "--tlskey",
        f"{tmp_path}/server.key",
    )
    ca = str(tmp_path / "ca.pem")
    async with Server.running(*flags) as server:
        async with Daemon.connected(await server.bound("tcp"), ca=ca) as daemon:
            assert (await daemon.export(export_request("moby"))).code == "OK"
        async with Daemon.connected(await server.bound("tcp")) as daemon:
            assert (await daemon.export(export_request("moby"))).code == "UNAVAILABLE"
    async with Server.running(*flags, "--tlscacert", ca) as server:
        async with Daemon.connected(await server.bound("tcp"), ca=ca) as daemon:
            assert (await daemon.export(export_request("moby"))).code == "UNAVAILABLE"
        certificate = {"cert": str(tmp_path / "client.pem"), "key": str(tmp_path / "client.key")}
        async with Daemon.connected(await server.bound("tcp"), ca=ca, **certificate) as daemon:
            assert (await daemon.export(export_request("moby"))).code == "OK"


async def test_unusable_tls_files_are_reported_at_start(tmp_path: Path) -> None:
    (tmp_path / "nonsense").write_text("nonsense")
    with pytest.raises(AssertionError, match="is not a certificate in PEM"):
        async with Server.running(
            "--addr",
            "tcp://127.0.0.1:0",
            "--tlscert",
            f"{tmp_path}/nonsense",
            "--tlskey",
            f"{tmp_path}/nonsense",
        ):
            pass


async def test_health_changes_when_the_shutdown_begins(tmp_path: Path) -> None:
    async with (
        Server.running() as server,
        Daemon.connected(server.address) as daemon,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        service = health_pb2.HealthCheckRequest(service="")
        assert (await health.Check(service)).status == health_pb2.HealthCheckResponse.SERVING
        named = health_pb2.HealthCheckRequest(service="buildkit.exporter.v1.ExporterService")
        assert (await health.Check(named)).status == health_pb2.HealthCheckResponse.SERVING
        watch = health.Watch(service)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        export = asyncio.create_task(daemon.export(blocking(tmp_path)))
        await eventually((tmp_path / "started").exists)
        server.signal(signal.SIGTERM)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await health.Check(named)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        (tmp_path / "go").touch()
        assert (await export).code == "OK"


async def test_reflection_describes_the_service(server: Server) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub
        call = reflection(channel).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        names = [service.name for service in (await call.read()).list_services_response.service]
        assert {
            "buildkit.exporter.v1.ExporterService",
            "moby.buildkit.v1.Control",
            "grpc.health.v1.Health",
        } <= set(names)
        for name in names:
            await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name))
            assert (await call.read()).file_descriptor_response.file_descriptor_proto


async def test_other_methods_of_control_are_not_implemented(server: Server) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await control_pb2_grpc.ControlStub(channel).DiskUsage(control_pb2.DiskUsageRequest())
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_metrics_count_requests_by_type_and_code(server: Server, daemon: Daemon) -> None:
    await daemon.do("attach", session="s", saved=str(scenario(MOBY_BUILD)))
    request = await saved_request(scenario(MOBY_BUILD), "moby", inline=False, session="s")
    assert (await daemon.export(request)).code == "OK"
    for kind in ('\n"nonsense', "more nonsense"):
        await daemon.export(export_request(kind))
    metrics = await server.metrics()
    assert metrics["buildkit_exporter_requests_total", "OK", "Export", "moby"] == 1
    assert metrics["buildkit_exporter_requests_total", "NOT_FOUND", "Export", "unknown"] == 2
    assert metrics["buildkit_exporter_request_duration_seconds_count", "Export", "moby"] == 1
    assert metrics["buildkit_exporter_requests_in_flight", "Export"] == 0
    assert metrics["buildkit_exporter_exports_queued",] == 0
    assert metrics["buildkit_exporter_sessions",] == 1
    layers = await saved_request(scenario(MOBY_BUILD), "moby", inline=True)
    size = sum(descriptor.size for descriptor in layers.source.ref.inline.descriptors)
    assert metrics["buildkit_exporter_layer_read_bytes_total",] == size
    record = await server.logged("rpc=Export code=OK")
    assert (record["type"], record["code"], record["session"]) == ("moby", "OK", "s")
