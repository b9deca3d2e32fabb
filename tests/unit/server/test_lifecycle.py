"""The server from its start to its end."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import exporter.server
from exporter.engine.config import WorkplaceConfig
from exporter.errors import FailedPreconditionError, InvalidArgumentError
from exporter.pb.buildkit.exporter.v1 import exporter_pb2 as pb
from exporter.remotes.registry.credentials import Credentials
from exporter.remotes.registry.operator import OperatorCredentials
from exporter.rpc.address import Address
from exporter.server.config import ServerConfig
from exporter.server.lifecycle import PluginServer, serve
from exporter.server.signals import queued_signals
from exporter.server.watching import watched
from tests.sessions import until
from tests.unit.server.running import WaitingExporter, code_of, registry, running, within

DOCUMENTED = Path(__file__).parents[3] / "docs" / "cli.md"


async def get(address: str, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as client, client.get(f"http://{address}{path}") as response:
        return response.status, await response.text()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


async def health_of(channel: grpc.aio.Channel) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service="buildkit.exporter.v1.ExporterService")
    answer: int = (await stub.Check(request)).status
    return answer


async def test_a_shutdown_refuses_new_exports_and_waits_for_running_ones(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with running(tmp_path, metrics_address=address) as found:
        server, gate = found.server, WaitingExporter.gate
        assert await get(address, "/readyz") == (200, "ok\n")
        export = asyncio.create_task(found.export(pb.ExportRequest(type="waiting")))
        await within(gate.began.wait())
        assert server.requests == 1
        hurry = asyncio.create_task(asyncio.Event().wait())
        drain = asyncio.create_task(server.drain(30, hurry))
        await until(lambda: server._state.text != "")
        assert await get(address, "/readyz") == (503, "the server is shutting down\n")
        assert await get(address, "/healthz") == (200, "ok\n")
        assert await health_of(found.channel) == health_pb2.HealthCheckResponse.NOT_SERVING
        late = found.export(pb.ExportRequest(type="waiting"))
        assert await code_of(late) is grpc.StatusCode.UNAVAILABLE
        assert not drain.done()
        gate.may_end.set()
        token = (await within(export)).finalize_token
        assert not drain.done(), "there is something to publish"
        assert await found.finalize(token) == {"published": "yes"}
        await within(drain)
        hurry.cancel()


@pytest.mark.parametrize("end", ["grace", "hurry"])
async def test_an_export_that_takes_too_long_is_cancelled(tmp_path: Path, end: str) -> None:
    async with running(tmp_path) as found:
        export = asyncio.create_task(code_of(found.export(pb.ExportRequest(type="waiting"))))
        await within(WaitingExporter.gate.began.wait())
        hurry = asyncio.create_task(asyncio.sleep(0 if end == "hurry" else 1000))
        await within(found.server.drain(1000 if end == "hurry" else 0.01, hurry))
        assert not WaitingExporter.gate.ended.is_set()
        hurry.cancel()
    assert WaitingExporter.gate.ended.is_set()
    assert await export is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_server(tmp_path: Path, number: int) -> None:
    config = ServerConfig(
        addresses=(f"unix://{tmp_path}/s",), workplace=WorkplaceConfig(root=tmp_path / "root")
    )
    listening: asyncio.Future[tuple[Address, ...]] = asyncio.get_running_loop().create_future()
    served = asyncio.create_task(serve(config, registry=registry(), on_ready=listening.set_result))
    assert [str(address) for address in await within(listening)] == [f"unix://{tmp_path}/s"]
    os.kill(os.getpid(), number)
    await within(served)
    assert not (tmp_path / "s").exists()


async def test_signals_are_queued_in_their_order() -> None:
    with queued_signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert await within(signals.get()) is signal.SIGINT
        os.kill(os.getpid(), signal.SIGTERM)
        assert await within(signals.get()) is signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_requests_are_counted_where_the_operator_looks(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with running(tmp_path, metrics_address=address) as found:
        await code_of(found.export(pb.ExportRequest(type="failing")))
        _, text = await get(address, "/metrics")
        assert 'requests_total{code="UNAVAILABLE",method="Export",type="failing"} 1.0' in text
        buckets = re.findall(r'duration_seconds_bucket\{le="([^"]+)",method="Export"', text)
        dashboards = "0.05 0.1 0.25 0.5 1.0 2.5 5.0 10.0 30.0 60.0 120.0 300.0 600.0 1800.0 +Inf"
        assert buckets == dashboards.split(), "dashboards and alerts name them"
        assert "process_resident_memory_bytes" in text


async def test_nothing_is_served_for_the_operator_without_an_address() -> None:
    async with watched(None, asyncio.Event().wait) as found:  # type: ignore[arg-type]
        assert found is None


async def test_an_address_for_metrics_that_is_in_use() -> None:
    async def ready() -> str:
        return ""

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(FailedPreconditionError, match=r"^metrics: ") as caught:
            async with watched(address, ready):
                pass
    assert caught.value.field == "metrics_address"


class NoCredentials:
    async def get(self, host: str) -> Credentials:
        return Credentials(origin="the file")


@pytest.mark.parametrize("lends", [True, False])
async def test_missing_credentials_of_the_operator_are_reported_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lends: bool
) -> None:
    operator = OperatorCredentials(NoCredentials(), ["registry.example"]) if lends else None
    async with running(tmp_path, operator=operator):
        pass
    expected = ["there are no credentials for registry.example in the file"] if lends else []
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == expected


@pytest.mark.parametrize(
    ("attribute", "flag"),
    [
        ("max_concurrent_exports", "max-concurrent-exports"),
        ("max_queued_exports", "max-queued-exports"),
        ("max_message_bytes", "max-message-bytes"),
        ("session_timeout", "session-timeout"),
        ("finalize_ttl", "finalize-ttl"),
        ("shutdown_grace", "shutdown-grace"),
    ],
)
def test_defaults_are_those_of_the_command(attribute: str, flag: str) -> None:
    config = ServerConfig(addresses=(), workplace=WorkplaceConfig())
    text = DOCUMENTED.read_text(encoding="utf-8")
    found = re.search(rf"--{flag} .*?\(default:\s+([0-9]+)\)", text, re.DOTALL)
    assert found is not None
    assert getattr(config, attribute) == float(found[1])


async def test_plain_tcp_on_all_interfaces_has_to_be_asked_for(tmp_path: Path) -> None:
    config = ServerConfig(addresses=("tcp://0.0.0.0:0",), workplace=WorkplaceConfig(root=tmp_path))
    with pytest.raises(InvalidArgumentError):
        async with PluginServer.running(config, registry()):
            pass


def test_the_package_has_no_other_names() -> None:
    assert exporter.server.serve is serve
    for name in ("nothing", "zero"):
        with pytest.raises(AttributeError):
            getattr(exporter.server, name)
