"""Identifying the server at an address: a BuildKit daemon, a plugin server, or something else."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf import empty_pb2

from exporter.content.concurrency import gather
from exporter.pb.buildkit.exporter.v1 import exporter_pb2, exporter_pb2_grpc
from exporter.pb.containerd.services.version.v1 import version_pb2_grpc
from exporter.pb.moby.buildkit.v1 import control_pb2, control_pb2_grpc


class Kind(enum.Enum):
    """Kinds of servers, with their names in messages."""

    BUILDKIT = "a BuildKit daemon"
    PLUGIN_SERVER = "a plugin server of buildkit-exporter"
    CONTAINERD = "a containerd"
    OTHER = "a gRPC server of another kind"


@dataclass(frozen=True, slots=True)
class Identity:
    """The kind of a server, and its version if known."""

    kind: Kind
    version: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value} ({self.version})" if self.version else self.kind.value


async def identify(channel: grpc.aio.Channel, timeout: float) -> Identity:
    """Identify a server.

    Args:
        channel: The channel to the server.
        timeout: The timeout in seconds.

    Raises:
        grpc.aio.AioRpcError: the server does not answer.
    """
    calls = (
        _ask(control_pb2_grpc.ControlStub(channel).Info, control_pb2.InfoRequest(), timeout),
        # Daemons before v0.11 do not have Info.
        _ask(control_pb2_grpc.ControlStub(channel).ListWorkers, control_pb2.ListWorkersRequest(), timeout),
        _ask(
            exporter_pb2_grpc.ExporterServiceStub(channel).ListExporters,
            exporter_pb2.ListExportersRequest(),
            timeout,
        ),
        _ask(version_pb2_grpc.VersionStub(channel).Version, empty_pb2.Empty(), timeout),
    )
    info, workers, exporters, containerd = await gather(calls)
    if info is not None or workers is not None:
        return Identity(Kind.BUILDKIT, info.buildkitVersion.version if info is not None else "")
    if exporters is not None:
        return Identity(Kind.PLUGIN_SERVER)
    if containerd is not None:
        return Identity(Kind.CONTAINERD, containerd.version)
    return Identity(Kind.OTHER)


async def _ask(method: Any, request: object, timeout: float) -> Any:
    """Call a method; returns None if the server does not have it."""
    try:
        return await method(request, timeout=timeout)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return None
        raise
