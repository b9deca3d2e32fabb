"""What a caller of the service sees."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from exporter.engine.config import WorkplaceConfig
from exporter.engine.finalize import FinalizeStore
from exporter.engine.jobs import Jobs
from exporter.engine.limits import Admission
from exporter.engine.workplace import open_workplace
from exporter.image import digest_bytes
from exporter.pb.buildkit.exporter.v1 import exporter_pb2 as pb
from exporter.rpc.session.attach import attach
from exporter.rpc.session.manager import SessionManager
from exporter.server.peers import Peers
from exporter.server.prometheus import PrometheusMetrics
from exporter.server.service import ExporterService
from tests.sessions import until
from tests.unit.server.running import (
    Gate,
    Running,
    WaitingExporter,
    code_of,
    registry,
    running,
    within,
)

SESSION_TIMEOUT = 0.05


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, broken=["lost"]) as found:
        yield found


def request(type: str = "waiting", **fields: Any) -> pb.ExportRequest:
    return pb.ExportRequest(type=type, **fields)


def open_gate() -> None:
    WaitingExporter.gate.may_end.set()


async def test_a_list_has_the_types_that_load_and_warns_of_others(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    listed = await server.stub.ListExporters(pb.ListExportersRequest())
    types = [kind.type for kind in listed.exporters]
    assert {"oci", "waiting", "failing"} <= set(types)
    assert "lost" not in types
    assert [text for text in caplog.messages if "no_such_module" in text]


async def test_a_result_carries_the_response_the_token_and_the_descriptor(server: Running) -> None:
    open_gate()
    result = await server.export(request())
    assert dict(result.response) == {"made": "it"}
    assert result.finalize_token
    assert not result.HasField("descriptor")
    assert await server.finalize(result.finalize_token) == {"published": "yes"}


async def test_an_image_comes_with_its_descriptor(server: Running) -> None:
    layer = b"\0" * 1024
    diff_id = digest_bytes(layer)
    described = pb.Descriptor(
        media_type="application/vnd.oci.image.layer.v1.tar",
        digest=diff_id,
        size=len(layer),
        data=layer,
        annotations={"containerd.io/uncompressed": diff_id},
    )
    inline = pb.InlineRef(chain=[pb.Layer(id="a", description="RUN a")], descriptors=[described])
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers"}}).encode()
    source = pb.Source(ref=pb.Ref(id="r", inline=inline), metadata={"containerimage.config": config})
    result = await server.export(request("image", attrs={"name": "x"}, source=source))
    assert result.descriptor.digest == result.response["containerimage.digest"]


async def test_an_export_without_anything_to_publish_has_no_token(server: Running) -> None:
    open_gate()
    assert not (await server.export(request(attrs={"publish": "false"}))).finalize_token


async def test_indexes_of_exporters_begin_at_zero(server: Running) -> None:
    open_gate()
    assert (await server.export(request(id=0))).finalize_token
    assert await code_of(server.export(request(id=-1))) is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_failure_keeps_its_status(server: Running) -> None:
    assert await code_of(server.export(request("failing"))) is grpc.StatusCode.UNAVAILABLE
    assert await code_of(server.export(request("unknown"))) is grpc.StatusCode.NOT_FOUND


async def test_a_token_that_waits_for_a_session_needs_one(server: Running) -> None:
    open_gate()
    without = request(release_with_session=True)
    assert await code_of(server.export(without)) is grpc.StatusCode.INVALID_ARGUMENT
    assert (await server.export(request())).finalize_token, "others need none"


async def test_the_end_of_the_session_releases_the_token(server: Running) -> None:
    open_gate()
    async with attach(server.channel, [], session_id="s"):
        build = pb.BuildInfo(session_id="s")
        bound = (await server.export(request(build=build, release_with_session=True))).finalize_token
        free = (await server.export(request(build=build))).finalize_token
        assert await server.finalize(free) == {"published": "yes"}
        assert server.server._tokens.type_of(bound) == "waiting"
    await until(lambda: not server.server._tokens.type_of(bound))
    assert server.server._tokens.type_of(free) == "waiting"


async def test_a_session_is_only_waited_for_if_it_is_needed(tmp_path: Path) -> None:
    async with running(tmp_path, session_timeout=SESSION_TIMEOUT) as server:
        open_gate()
        build = pb.BuildInfo(session_id="absent")
        assert (await server.export(request(build=build))).finalize_token
        bound = request(build=build, release_with_session=True)
        assert await code_of(server.export(bound)) is grpc.StatusCode.UNAVAILABLE


async def test_a_release_drops_the_token_and_is_idempotent(server: Running) -> None:
    open_gate()
    token = (await server.export(request())).finalize_token
    for _ in range(2):
        await server.stub.Release(pb.ReleaseRequest(finalize_token=token))
    assert await code_of(server.finalize(token)) is grpc.StatusCode.NOT_FOUND


class Call:
    """A call whose reader goes away before its result, or after it."""

    def __init__(self, loses: Callable[[pb.ExportResponse], bool]) -> None:
        self._loses = loses
        self.written: list[pb.ExportResponse] = []

    async def write(self, message: pb.ExportResponse) -> None:
        if self._loses(message):
            raise grpc.aio.UsageError("RPC already finished")
        self.written.append(message)

    def time_remaining(self) -> float | None:
        return None


class Direct:
    """The service without a connection."""

    def __init__(self, tmp_path: Path) -> None:
        self.tokens = FinalizeStore(600)
        self.metrics = CollectorRegistry()
        self._root = tmp_path / "root"

    async def export(self, call: Call, message: pb.ExportRequest) -> None:
        WaitingExporter.gate = Gate()
        open_gate()
        admission = Admission(1, 0)
        config = WorkplaceConfig(root=self._root)
        async with AsyncExitStack() as stack:
            metrics = PrometheusMetrics(self.metrics)
            place = await stack.enter_async_context(
                open_workplace(config, admission=admission, tokens=self.tokens)
            )
            peers = Peers(
                sessions=SessionManager(), session_timeout=0, store=place.store, allowed=(), metrics=metrics
            )
            service = ExporterService(
                registry=registry(),
                engine=place.engine,
                tokens=self.tokens,
                peers=peers,
                jobs=Jobs(),
                metrics=metrics,
            )
            try:
                await service.Export(message, cast(Any, call))
            finally:
                self.kept = self.tokens.unpublished(600)


async def test_a_token_whose_result_cannot_be_delivered_is_dropped(tmp_path: Path) -> None:
    direct = Direct(tmp_path)
    with pytest.raises(asyncio.CancelledError):
        await direct.export(Call(lambda message: message.HasField("result")), request())
    assert direct.kept == 0
    assert not WaitingExporter.scratch.exists()


async def test_a_token_that_has_been_delivered_is_kept(tmp_path: Path) -> None:
    direct, call = Direct(tmp_path), Call(lambda message: False)
    await direct.export(call, request())
    assert call.written[-1].result.finalize_token
    assert direct.kept == 1


async def test_a_result_without_a_token_that_cannot_be_delivered(tmp_path: Path) -> None:
    direct = Direct(tmp_path)
    with pytest.raises(asyncio.CancelledError):
        await direct.export(
            Call(lambda message: message.HasField("result")), request(attrs={"publish": "false"})
        )


async def test_an_unknown_type_does_not_become_a_label(tmp_path: Path) -> None:
    direct = Direct(tmp_path)
    with pytest.raises(Exception, match="could not be found"):
        await direct.export(Call(lambda message: False), request("x" * 100))
    shown = generate_latest(direct.metrics).decode()
    assert 'buildkit_exporter_requests_total{code="NOT_FOUND",method="Export",type="unknown"} 1.0' in shown
    assert "xxx" not in shown


async def test_a_known_type_is_a_label(tmp_path: Path) -> None:
    direct = Direct(tmp_path)
    await direct.export(Call(lambda message: False), request())
    shown = generate_latest(direct.metrics).decode()
    assert 'buildkit_exporter_requests_total{code="OK",method="Export",type="waiting"} 1.0' in shown


async def test_cancelling_a_call_cancels_its_export(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    call = server.stub.Export(request())
    reading = asyncio.create_task(call.read())
    await within(WaitingExporter.gate.began.wait())
    call.cancel()
    await within(WaitingExporter.gate.ended.wait())
    await until(lambda: not server.server.requests)
    assert not WaitingExporter.scratch.exists()
    await asyncio.wait((reading,))
    await until(lambda: any("rpc=Export code=CANCELLED" in text for text in caplog.messages))
