"""Builds through the proxy, with a simulated daemon."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from exporter.client import BuildkitClient, Export, SolveError
from exporter.errors import Code, ExporterError, UnavailableError
from exporter.pb.moby.buildkit.v1 import control_pb2, control_pb2_grpc
from exporter.progress.model import StatusUpdate
from exporter.proxy.prometheus import PrometheusProxyMetrics
from exporter.takeover.history import Origin
from tests.builds import read_json
from tests.integration.proxied import root_of
from tests.integration.simulator import BEHAVIOUR, SCENARIO, Behaviour
from tests.integration.simulator.daemon import SimulatedDaemon
from tests.sessions import until
from tests.unit.proxy.running import BUILD, PATIENCE, Proxied, proxied

RECORDED = read_json(BUILD, "oci/index.json")["manifests"][0]["digest"]


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxied]:
    async with proxied(tmp_path, taken=["oci"], strict=True, tell_place=True) as running:
        yield running


def errors(updates: list[StatusUpdate], name: str) -> list[str]:
    """How the vertexes of this name ended."""
    found = [vertex for update in updates for vertex in update.vertexes if vertex.name == name]
    return [vertex.error for vertex in found if vertex.completed is not None]


def logs(updates: list[StatusUpdate]) -> str:
    return b"".join(log.data for update in updates for log in update.logs).decode()


async def test_an_archive_goes_to_the_client(proxy: Proxied, tmp_path: Path) -> None:
    target = tmp_path / "ours.tar"
    result = await proxy.solve(Export("oci", file=str(target)))
    assert result.response["containerimage.digest"] == root_of(target) == RECORDED
    assert proxy.scratch() == []


async def test_an_archive_goes_to_the_operators_directory(proxy: Proxied) -> None:
    updates: list[StatusUpdate] = []
    await proxy.solve(Export("plugin.oci", {"proxy-dest": "x.tar"}), updates=updates)
    assert root_of(proxy.output / "x.tar") == RECORDED
    assert errors(updates, "exporting to oci image format") == [""]


async def test_an_image_goes_to_the_store(proxy: Proxied) -> None:
    updates: list[StatusUpdate] = []
    result = await proxy.solve(Export("plugin.image", {"name": "x/one"}), updates=updates)
    assert result.response["containerimage.digest"] == RECORDED
    assert logs(updates) == f"the image goes to the image store {proxy.root}\n"


async def test_where_an_image_goes_is_told_on_request_only(tmp_path: Path) -> None:
    updates: list[StatusUpdate] = []
    async with proxied(tmp_path) as proxy:
        await proxy.solve(Export("plugin.image", {"name": "x/one"}), updates=updates)
    assert logs(updates) == ""


async def test_ours_beside_the_daemons(proxy: Proxied, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.tar"
    result = await proxy.solve(
        Export("plugin.oci", {"proxy-dest": "ours.tar"}),
        Export("docker", file=str(theirs)),
        Export("ordered", {"label": "x", "log": str(tmp_path / "log")}),
    )
    assert set(theirs.read_bytes()) == {0}, "what the simulator sends"
    assert root_of(proxy.output / "ours.tar") == RECORDED
    assert result.response["label"] == "x"
    assert result.response["x"] == "finalized"


async def test_later_exporters_of_ours_win_over_the_daemons_and_earlier_ones_do_not(
    proxy: Proxied, tmp_path: Path
) -> None:
    ours = Export("plugin.oci", {"proxy-dest": "a.tar", "compression": "zstd", "force-compression": "true"})
    theirs = Export("docker", file=str(tmp_path / "theirs.tar"))
    first = (await proxy.solve(ours, theirs)).response
    last = (await proxy.solve(theirs, ours)).response
    assert first["containerimage.digest"] == RECORDED
    assert last["containerimage.digest"] == root_of(proxy.output / "a.tar") != RECORDED


async def test_builds_without_exporters_of_ours_are_passed_through(proxy: Proxied) -> None:
    updates: list[StatusUpdate] = []
    result = await proxy.solve(Export("image", {}), updates=updates)
    assert result.response["containerimage.digest"] == RECORDED
    assert errors(updates, "exporting to image image format") == [""]


@pytest.mark.parametrize(
    ("export", "message"),
    [
        (Export("plugin.oci", {"compression": "lzw", "proxy-dest": "x"}), "unsupported compression type lzw"),
        (Export("plugin.ocy", {}), 'exporter "ocy" could not be found'),
        (Export("plugin.oci", {"proxy-dest": "../x"}), "is not a path below"),
        (Export("plugin.oci", {"proxy-dest": ""}), "is not a path below"),
        (Export("plugin.oci", {"proxy-dest": "."}), "is not a path below"),
        (Export("plugin.oci", {}), "makes files, and clients take none"),
    ],
)
async def test_wrong_attributes_are_refused_before_the_build(
    proxy: Proxied, export: Export, message: str
) -> None:
    updates: list[StatusUpdate] = []
    with pytest.raises(ExporterError, match=message):
        await proxy.solve(export, updates=updates)
    assert not any(update.vertexes for update in updates), "the daemon does not see it"


async def test_the_daemons_types_fail_in_the_words_of_the_daemon(proxy: Proxied, tmp_path: Path) -> None:
    """Go's clients show the code of a status with one, and the daemon's have none."""
    code = await _code(proxy, "oci", {"compression": "lzw"})
    assert code is grpc.StatusCode.UNKNOWN
    assert await _code(proxy, "plugin.oci", {"compression": "lzw"}) is grpc.StatusCode.INVALID_ARGUMENT


async def _code(proxy: Proxied, exporter: str, attrs: dict[str, str]) -> grpc.StatusCode:
    request = control_pb2.SolveRequest(
        Ref="x", Session="x", Exporters=[control_pb2.Exporter(Type=exporter, Attrs=attrs)]
    )
    async with grpc.aio.insecure_channel(proxy.address.replace("unix://", "unix:")) as channel:
        try:
            await control_pb2_grpc.ControlStub(channel).Solve(request, timeout=PATIENCE)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def test_a_failing_exporter_leaves_nothing(proxy: Proxied) -> None:
    updates: list[StatusUpdate] = []
    export = Export("failing", {"proxy-dest": "failing.tar", "commit": "yes"})
    with pytest.raises(SolveError, match="it is of no use") as caught:
        await proxy.solve(export, updates=updates)
    assert "tar:" not in str(caught.value)
    assert errors(updates, "exporting what is of no use") == ["it is of no use"]
    assert not (proxy.output / "failing.tar").exists()
    assert proxy.scratch() == []


async def test_a_publication_that_fails_fails_the_build(proxy: Proxied, tmp_path: Path) -> None:
    export = Export("ordered", {"label": "x", "log": str(tmp_path / "log"), "fails": "finalize"})
    with pytest.raises(ExporterError, match="cannot finalize"):
        await proxy.solve(export)
    assert proxy.scratch() == []


async def test_what_a_failed_build_has_exported_is_given_up(proxy: Proxied, tmp_path: Path) -> None:
    good = Export("ordered", {"label": "x", "log": str(tmp_path / "log")})
    waiting = Export("waiting", {"control": str(tmp_path), "fails": "yes"})
    task = asyncio.create_task(proxy.solve(good, waiting))
    await until((tmp_path / "log").exists)
    await until(lambda: len(proxy.scratch()) == 2)
    (tmp_path / "go").touch()
    with pytest.raises(ExporterError, match="waited in vain"):
        await task
    assert (tmp_path / "log").read_text() == "export x\n"
    assert proxy.scratch() == []


async def test_a_failure_of_the_daemon_reaches_the_client(proxy: Proxied) -> None:
    export = Export("plugin.oci", {"proxy-dest": "x.tar"})
    with pytest.raises(SolveError, match="did not complete successfully: exit code: 1"):
        await proxy.solve(export, behaviour=Behaviour.FAILING)
    await proxy.solve(export)


async def test_a_daemon_that_is_too_old_is_named_as_the_cause(proxy: Proxied) -> None:
    with pytest.raises(SolveError, match="has to be v0.22 or newer"):
        await proxy.solve(Export("plugin.oci", {"proxy-dest": "x.tar"}), behaviour=Behaviour.OLD)


async def test_a_daemon_that_sends_its_files_too_late(proxy: Proxied) -> None:
    with pytest.raises(SolveError, match="exporter 0 was not run"):
        await proxy.solve(Export("plugin.oci", {"proxy-dest": "x.tar"}), behaviour=Behaviour.LATE)
    assert not (proxy.output / "x.tar").exists()


async def test_an_image_that_differs_from_the_daemons_fails_a_strict_build(tmp_path: Path) -> None:
    export = Export("plugin.oci", {"proxy-dest": "x.tar"})
    for name, strict in (("strict", True), ("lenient", False)):
        directory = tmp_path / name
        directory.mkdir()
        async with proxied(directory, strict=strict) as proxy:
            if strict:
                with pytest.raises(SolveError):
                    await proxy.solve(export, behaviour=Behaviour.DIFFERENT)
                assert not (proxy.output / "x.tar").exists()
            else:
                await proxy.solve(export, behaviour=Behaviour.DIFFERENT)
                assert root_of(proxy.output / "x.tar") != RECORDED


async def test_a_client_that_goes_away_stops_its_export(proxy: Proxied, tmp_path: Path) -> None:
    stalled = Export("stalled", {"control": str(tmp_path), "proxy-dest": "half"})
    task = asyncio.create_task(proxy.solve(stalled))
    await until((tmp_path / "started").exists)
    assert (proxy.switch.connections, proxy.switch.solves) == (1, 1)
    task.cancel()
    await until((tmp_path / "stopped").exists)
    await asyncio.wait((task,))
    await until(lambda: proxy.switch.solves == 0)
    assert not (proxy.output / "half").exists()
    await until(lambda: not proxy.scratch())


async def test_a_shutdown_waits_for_builds_and_refuses_new_ones(proxy: Proxied, tmp_path: Path) -> None:
    waiting = Export("waiting", {"control": str(tmp_path)})
    running = asyncio.create_task(proxy.solve(waiting))
    await until((tmp_path / "started").exists)
    drain = asyncio.create_task(proxy.switch.drain())
    await until(lambda: proxy.switch.builds.is_closed)
    for export in (Export("plugin.oci", {"proxy-dest": "x.tar"}), Export("image")):
        with pytest.raises(ExporterError, match="shutting down and takes no new builds"):
            await proxy.solve(export)
    assert not drain.done()
    (tmp_path / "go").touch()
    assert (await running).response == {"waited": "yes"}
    async with asyncio.timeout(PATIENCE):
        await drain


async def test_a_proxy_without_builds_stops_at_once(proxy: Proxied) -> None:
    async with BuildkitClient.connect(proxy.address):
        async with asyncio.timeout(PATIENCE):
            await proxy.switch.drain()
        proxy.switch.close()
        await until(lambda: not proxy.switch.connections)


async def test_a_session_that_the_daemon_refuses(proxy: Proxied) -> None:
    """One that has no ID."""
    async with grpc.aio.insecure_channel(proxy.address.replace("unix://", "unix:")) as channel:
        call = control_pb2_grpc.ControlStub(channel).Session(timeout=PATIENCE)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while await call.read() is not grpc.aio.EOF:
                pass
            raise AssertionError(await call.code())
    assert caught.value.code() is not grpc.StatusCode.DEADLINE_EXCEEDED


async def test_what_is_not_a_build_is_the_callers_error(proxy: Proxied) -> None:
    async with grpc.aio.insecure_channel(proxy.address.replace("unix://", "unix:")) as channel:
        for method in ("Solve", "Status"):
            call: Any = channel.unary_unary(f"/moby.buildkit.v1.Control/{method}")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(b"\xff\xff", timeout=PATIENCE)
            assert caught.value.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
        info = await control_pb2_grpc.ControlStub(channel).Info(control_pb2.InfoRequest(), timeout=PATIENCE)
        assert info.buildkitVersion.version, "others are served"


async def test_two_builds_of_one_session_are_refused(proxy: Proxied, tmp_path: Path) -> None:
    waiting = Export("waiting", {"control": str(tmp_path)})
    running = asyncio.create_task(proxy.solve(waiting))
    await until((tmp_path / "started").exists)
    (build,) = proxy.switch.builds._by_ref.values()
    request = control_pb2.SolveRequest(
        Exporters=[control_pb2.Exporter(Type="waiting", Attrs={"control": str(tmp_path)})],
        FrontendAttrs={SCENARIO: BUILD, BEHAVIOUR: ""},
    )
    async with grpc.aio.insecure_channel(proxy.address.replace("unix://", "unix:")) as channel:
        for ref, session, text in (
            ("another", build.session_id, "has another build with exporters of this proxy"),
            (build.request.Ref, "another", "is under way already"),
        ):
            request.Ref, request.Session = ref, session
            with pytest.raises(grpc.aio.AioRpcError, match=text) as caught:
                await control_pb2_grpc.ControlStub(channel).Solve(request, timeout=PATIENCE)
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    (tmp_path / "go").touch()
    assert (await running).response == {"waited": "yes"}


class RememberingDaemon(SimulatedDaemon):
    """Has a history."""

    async def ListenBuildHistory(self, request: Any, context: Any) -> Any:  # noqa: N802
        origin = Origin(0, "moby", {"name": "x"}).attributes()
        ours = control_pb2.Exporter(Type="oci", Attrs=origin)
        yield control_pb2.BuildHistoryEvent(type=control_pb2.BuildHistoryEventType.STARTED)
        yield control_pb2.BuildHistoryEvent(record=control_pb2.BuildHistoryRecord(Ref="r", Exporters=[ours]))


async def test_the_history_has_what_clients_asked_for(tmp_path: Path) -> None:
    async with (
        proxied(tmp_path, daemon=RememberingDaemon()) as proxy,
        grpc.aio.insecure_channel(proxy.address.replace("unix://", "unix:")) as channel,
    ):
        call = control_pb2_grpc.ControlStub(channel).ListenBuildHistory(
            control_pb2.BuildHistoryRequest(EarlyExit=True), timeout=PATIENCE
        )
        first, second = [event async for event in call]
    assert not first.HasField("record")
    (exporter,) = second.record.Exporters
    assert (exporter.Type, dict(exporter.Attrs)) == ("moby", {"name": "x"})


async def test_metrics_tell_of_builds_exports_and_bytes(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    metrics = PrometheusProxyMetrics(registry)
    async with proxied(tmp_path, metrics=metrics, on_end=metrics.ended) as proxy:
        await proxy.solve(Export("plugin.oci", {"proxy-dest": "x.tar"}))
        await proxy.solve(Export("image"))
        with pytest.raises(ExporterError):
            await proxy.solve(Export("failing", {"proxy-dest": "x.tar"}))
    text = generate_latest(registry).decode()
    for line in (
        'builds_total{exports="proxy"} 2.0',
        'builds_total{exports="daemon"} 1.0',
        "connections_accepted_total 3.0",
        "connections_without_daemon_total 0.0",
        'exports_total{code="OK",phase="export",type="oci"} 1.0',
        'exports_total{code="FAILED_PRECONDITION",phase="export",type="failing"} 1.0',
    ):
        assert f"buildkit_exporter_proxy_{line}\n" in text
    buckets = re.findall(r'duration_seconds_bucket\{le="([^"]+)",phase="export",type="oci"', text)
    dashboards = "0.05 0.1 0.25 0.5 1.0 2.5 5.0 10.0 30.0 60.0 120.0 300.0 600.0 1800.0 +Inf"
    assert buckets == dashboards.split(), "dashboards and alerts name them"


async def test_a_daemon_that_does_not_listen(tmp_path: Path) -> None:
    async with proxied(tmp_path) as proxy:
        (tmp_path / "d").unlink()
        for _ in range(2):
            with pytest.raises(ExporterError, match="cannot reach buildkitd at unix://") as caught:
                await proxy.solve(Export("image"))
            assert isinstance(caught.value, UnavailableError) or caught.value.code is Code.UNAVAILABLE
