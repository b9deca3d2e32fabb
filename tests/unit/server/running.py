"""A plugin server in the process of the test, with exporters that wait where the test wants them to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import grpc
import grpc.aio

from exporter import (
    ArtifactKind,
    Attribute,
    ExportContext,
    Exporter,
    ExportResult,
    FinalizeContext,
    Source,
    UnavailableError,
)
from exporter.engine.config import WorkplaceConfig
from exporter.exporters.registry import ENTRY_POINT_GROUP, Registry
from exporter.pb.buildkit.exporter.v1 import exporter_pb2 as pb
from exporter.pb.buildkit.exporter.v1 import exporter_pb2_grpc
from exporter.server.config import ServerConfig
from exporter.server.lifecycle import PluginServer

PATIENCE = 30.0
"""Seconds until a test that waits for something gives up."""


class Gate:
    """Where an export waits. One test uses it at a time."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.ended = asyncio.Event()


class WaitingExporter(Exporter):
    """Waits for its gate, and then has something to publish."""

    type = "waiting"
    title = "Waits"
    artifact = ArtifactKind.NONE
    attributes = (Attribute("publish", "bool", "true", "Whether there is something to publish."),)
    gate: ClassVar[Gate]
    scratch: ClassVar[Path]

    @property
    def name(self) -> str:
        return "waiting"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        gate = type(self).gate
        type(self).scratch = context.scratch
        gate.began.set()
        try:
            await gate.may_end.wait()
        finally:
            gate.ended.set()

        async def finalize(finalizing: FinalizeContext) -> Mapping[str, str]:
            return {"published": "yes"}

        return ExportResult(
            response={"made": "it"}, finalize=finalize if self.attrs.get("publish") != "false" else None
        )


class FailingExporter(Exporter):
    """Fails as something outside does."""

    type = "failing"
    title = "Fails"
    artifact = ArtifactKind.NONE

    @property
    def name(self) -> str:
        return "failing"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        raise UnavailableError("the store is down")


def registry(*broken: str) -> Registry:
    """The built-in types, those above, and some whose plugin does not load."""
    points = [
        metadata.EntryPoint(name, value, ENTRY_POINT_GROUP)
        for name, value in (
            ("waiting", f"{__name__}:WaitingExporter"),
            ("failing", f"{__name__}:FailingExporter"),
            *((name, "no_such_module:Exporter") for name in broken),
        )
    ]
    return Registry(points)


class Running:
    """A server, and a caller."""

    def __init__(self, server: PluginServer, channel: grpc.aio.Channel) -> None:
        self.server = server
        self.channel = channel
        self.stub: Any = exporter_pb2_grpc.ExporterServiceStub(channel)

    async def export(self, request: pb.ExportRequest) -> pb.ExportResult:
        """Export, and return the result."""
        *_, last = [message async for message in self.stub.Export(request)]
        result: pb.ExportResult = last.result
        return result

    async def finalize(self, token: str) -> dict[str, str]:
        """Publish."""
        request = pb.FinalizeRequest(finalize_token=token)
        *_, last = [message async for message in self.stub.Finalize(request)]
        return dict(last.result.response)


@asynccontextmanager
async def running(directory: Path, *, broken: Iterable[str] = (), **options: Any) -> AsyncIterator[Running]:
    """Run a server in `directory`, with these options of `ServerConfig`."""
    WaitingExporter.gate = Gate()
    config = ServerConfig(
        addresses=(f"unix://{directory}/s",), workplace=WorkplaceConfig(root=directory / "root"), **options
    )
    async with (
        grpc.aio.insecure_channel(f"unix:{directory}/s") as channel,
        PluginServer.running(config, registry(*broken)) as server,
    ):
        yield Running(server, channel)


async def within(awaitable: Any) -> Any:
    """Wait for what must happen."""
    async with asyncio.timeout(PATIENCE):
        return await awaitable


async def code_of(awaitable: Any) -> grpc.StatusCode:
    """The status with which a call fails."""
    try:
        await within(awaitable)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK
