"""Callers that send data which no gRPC library sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration import raw_http2
from tests.integration.fakedaemon.harness import Daemon, Server, eventually
from tests.integration.fakedaemon.requests import export_request

pytestmark = pytest.mark.timeout(300)

LIST = b"/buildkit.exporter.v1.ExporterService/ListExporters"
NOT_PROTOBUF = b"\0\0\0\0\3\xff\xff\xff"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server.running() as running:
        yield running


def socket_of(server: Server) -> str:
    return server.address.removeprefix("unix:")


@pytest.mark.parametrize(("path", "headers"), [(b"/\xff\xfe", ()), (LIST, ((b":path", b"/\xff"),))])
async def test_a_path_that_is_not_utf8_affects_no_other_call(
    path: bytes, headers: tuple[raw_http2.Header, ...], tmp_path: Path
) -> None:
    """gRPC's own server would accept no calls after that."""
    async with Server.running() as server, Daemon.connected(server.address) as daemon:
        attrs = {"control": str(tmp_path)}
        export = asyncio.create_task(daemon.export(export_request("test-blocking", attrs=attrs), key="it"))
        await eventually((tmp_path / "started").exists)
        await raw_http2.send(socket_of(server), raw_http2.call(path, *headers))
        assert (await daemon.do("resolve", type="oci", attrs={}))["code"] == "OK"
        await daemon.do("cancel", key="it")
        assert (await export).code == "CANCELLED"
        await eventually((tmp_path / "stopped").exists)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (b"", ()),
        (b"/", ()),
        (b"\0", ()),
        (LIST, ((b"x-text", b"\xff"),)),
        (LIST, ((b"x-\xff", b"x"),)),
        (LIST, ((b"x-bin", b"!!!!"),)),
        (LIST, ((b"user-agent", b"\xff"),)),
        (LIST, ((b"grpc-timeout", b"\xff"),)),
        (LIST, ((b"grpc-encoding", b"\xff"),)),
        (LIST, ((b"x-docker-expose-session-uuid", b"\xff"),)),
        (b"/moby.buildkit.v1.Control/Session", ((b"x-docker-expose-session-uuid", b"\xff"),)),
    ],
)
async def test_calls_after_malformed_metadata_are_served(
    server: Server, path: bytes, headers: tuple[raw_http2.Header, ...]
) -> None:
    await raw_http2.send(socket_of(server), raw_http2.call(path, *headers))
    async with Daemon.connected(server.address) as daemon:
        assert (await daemon.do("resolve", type="oci", attrs={}))["code"] == "OK"
    assert server.process.returncode is None


@pytest.mark.parametrize(
    "method",
    [
        b"/buildkit.exporter.v1.ExporterService/ListExporters",
        b"/buildkit.exporter.v1.ExporterService/Resolve",
        b"/buildkit.exporter.v1.ExporterService/Export",
        b"/buildkit.exporter.v1.ExporterService/Finalize",
        b"/grpc.health.v1.Health/Check",
        b"/grpc.health.v1.Health/Watch",
        b"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
async def test_requests_that_are_not_protobuf_are_the_callers_error(server: Server, method: bytes) -> None:
    answer = await raw_http2.send(socket_of(server), raw_http2.call(method, message=NOT_PROTOBUF))
    assert b"\x0bgrpc-status\x013" in answer, answer  # INVALID_ARGUMENT
    await server.stop()
    assert not any("Traceback" in line for line in server.noise)
    assert not any(record["level"] == "ERROR" for record in server.records), server.records
