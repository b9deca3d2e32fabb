"""Answering a daemon's session calls about a build with exports of ours."""

from __future__ import annotations

import base64
import binascii

import grpc

from exporter.content.manifest import decode_descriptor
from exporter.content.protocol import Provider
from exporter.daemon.chain import lacks_records, usage_records
from exporter.errors import Code, ExporterError, InvalidArgumentError, failure_of
from exporter.image import Descriptor
from exporter.image.keys import IMAGE_DESCRIPTOR
from exporter.pb.moby.buildkit.v1 import control_pb2, control_pb2_grpc
from exporter.pb.moby.exporter.v1 import exporter_pb2
from exporter.rpc.session import handling
from exporter.rpc.status import rpc_errors
from exporter.takeover.backend import RegistryAccess
from exporter.takeover.build import ProxiedBuild, ProxiedExport
from exporter.takeover.live_source import BuildResult
from exporter.takeover.session_client import SessionClient

_DESCRIPTOR_HEADER = f"exporter-md-{IMAGE_DESCRIPTOR}"


class SwallowedError(ExporterError):
    """Replaces a failure whose status code the daemon would misinterpret."""

    code = Code.FAILED_PRECONDITION


async def keep_result(build: ProxiedBuild, data: bytes, control: control_pb2_grpc.ControlStub) -> None:
    """Store the daemon's description of a build result, its version, and the cache records at this moment.

    Args:
        build: The build.
        data: The request of ``FindExporters``.
        control: The daemon's control service.

    Raises:
        SwallowedError: the daemon does not answer.
    """
    request = exporter_pb2.FindExportersRequest.FromString(data)
    try:
        with rpc_errors("cache records of buildkitd"):
            usage = await control.DiskUsage(control_pb2.DiskUsageRequest(filter=["inuse"]))
            records = usage_records(usage)
            if lacks_records(request.refs, records):
                # After a crash, a daemon may report a record in use as unused, for minutes.
                records = usage_records(await control.DiskUsage(control_pb2.DiskUsageRequest()))
        with rpc_errors("version of buildkitd"):
            info = await control.Info(control_pb2.InfoRequest())
    except ExporterError as error:
        raise SwallowedError(error.message) from error
    version = info.buildkitVersion.version
    build.set_result(BuildResult(dict(request.metadata), tuple(request.refs), records, version))


async def run_instead(
    export: ProxiedExport,
    context: handling.Context,
    client: SessionClient | None,
    content: Provider,
    access: RegistryAccess,
) -> None:
    """Run an export of ours instead of receiving the daemon's file, and reject the file.

    The daemon treats the status ALREADY_EXISTS as success, and does not send the file.

    Args:
        export: The export.
        context: The call with which the daemon wants to send its file.
        client: The build's client, if its session is not ours.
        content: The daemon's content store.
        access: Whose credentials registries are shown.

    Raises:
        Exception: the export failed.
    """
    root = _root(header(context, _DESCRIPTOR_HEADER))
    try:
        await export.run(root, client, content, access)
    except Exception as error:
        if failure_of(error).code is Code.ALREADY_EXISTS:
            raise SwallowedError(str(error)) from error
        raise
    await context.abort(grpc.StatusCode.ALREADY_EXISTS, "exported elsewhere")


def header(context: handling.Context, key: str) -> str:
    """The value of a header; empty if it is missing."""
    for name, value in context.invocation_metadata() or ():
        if name == key:
            return str(value)
    return ""


def _root(header: str) -> Descriptor:
    """The descriptor that the daemon sends before its image.

    Raises:
        InvalidArgumentError: it is missing or malformed.
    """
    if not header:
        raise InvalidArgumentError(
            f"buildkitd does not tell which image it has made: no {_DESCRIPTOR_HEADER}"
        )
    try:
        return decode_descriptor(base64.b64decode(header, validate=True))
    except binascii.Error as error:
        raise InvalidArgumentError(f"{_DESCRIPTOR_HEADER} is not base64: {error}") from error
