"""What the daemon asks of a client's session and the proxy answers."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import grpc
import grpc.aio

from exporter.bridge.chain import usage_records
from exporter.bridge.proxy.build import ProxiedExport
from exporter.bridge.proxy.builds import Builds
from exporter.bridge.proxy.client import FILE_SEND_METHOD, FIND_EXPORTERS_METHOD, SessionClient
from exporter.bridge.proxy.forward import Context, forward
from exporter.bridge.proxy.live_source import BuildResult
from exporter.bridge.services.receive import EXPORTER_ID
from exporter.content.manifest import decode_descriptor
from exporter.content.session import ContentClient
from exporter.errors import Code, ExporterError, FailedPreconditionError, InvalidArgumentError, failure_of
from exporter.grpc_status import rpc_errors
from exporter.image import Descriptor
from exporter.image.metadata import IMAGE_DESCRIPTOR
from exporter.pb.moby.buildkit.v1 import control_pb2, control_pb2_grpc
from exporter.pb.moby.exporter.v1 import exporter_pb2

ADDED_METHODS = (FIND_EXPORTERS_METHOD, FILE_SEND_METHOD)
"""What the proxy announces for every client: a daemon calls nothing else."""

_DESCRIPTOR_HEADER = f"exporter-md-{IMAGE_DESCRIPTOR}"


class SwallowedError(ExporterError):
    """A failure that would have a code which the daemon takes for something else."""

    code = Code.FAILED_PRECONDITION


class SessionServices:
    """Handles calls of the daemon to one client's session. Messages come in and go out as bytes.

    Args:
        client: The client.
        builds: Where its builds are found.
        daemon: Reaches the daemon.
    """

    def __init__(self, client: SessionClient, builds: Builds, daemon: grpc.aio.Channel) -> None:
        self._client = client
        self._builds = builds
        self._control = control_pb2_grpc.ControlStub(daemon)
        self._content = ContentClient(daemon)

    async def find_exporters(self, context: Context) -> None:
        """Keep what the daemon tells about its build result, and ask it what the refs are made of.

        That is possible only now: later the refs may be gone. The answer is the client's, mostly that it has
        no exporters.

        Raises:
            SwallowedError: the daemon does not answer.
        """
        data = await context.read()
        if data is grpc.aio.EOF:
            return
        build = self._builds.of_session(self._client.session_id)
        if build is not None:
            request = exporter_pb2.FindExportersRequest.FromString(data)
            try:
                with rpc_errors("cache records of buildkitd"):
                    usage = await self._control.DiskUsage(control_pb2.DiskUsageRequest(filter=["inuse"]))
            except ExporterError as error:
                raise SwallowedError(error.message) from error
            build.set_result(BuildResult(dict(request.metadata), tuple(request.refs), usage_records(usage)))
        is_asked = build is None or build.client_has_exporters
        if is_asked and self._client.supports(FIND_EXPORTERS_METHOD):
            await forward(self._client.channel, FIND_EXPORTERS_METHOD, context, first=data)
        else:
            await context.write(exporter_pb2.FindExportersResponse().SerializeToString())

    async def send_file(self, context: Context) -> None:
        """Run an export of ours instead of taking the daemon's file; pass any other file on to the client.

        The daemon takes the status ALREADY_EXISTS for success, and sends no file then.

        Raises:
            Exception: the export failed.
        """
        headers = {str(key): value for key, value in context.invocation_metadata() or ()}
        export = self._export(headers.get(EXPORTER_ID))
        if export is None:
            if not self._client.supports(FILE_SEND_METHOD):
                raise FailedPreconditionError(f"method {FILE_SEND_METHOD} not supported by the client")
            await forward(self._client.channel, FILE_SEND_METHOD, context)
            return
        try:
            await export.run(_root(headers.get(_DESCRIPTOR_HEADER)), self._client, self._content)
        except Exception as error:
            if failure_of(error).code is Code.ALREADY_EXISTS:
                raise SwallowedError(str(error)) from error
            raise
        await context.abort(grpc.StatusCode.ALREADY_EXISTS, "exported elsewhere")

    def _export(self, index: Any) -> ProxiedExport | None:
        build = self._builds.of_session(self._client.session_id)
        if build is None or not isinstance(index, str) or not index.isdecimal():
            return None
        return build.exports.get(int(index))


def _root(header: Any) -> Descriptor:
    """The descriptor that the daemon sends ahead of its image.

    Raises:
        InvalidArgumentError: there is none, or it is malformed.
    """
    if not isinstance(header, str):
        raise InvalidArgumentError(
            f"buildkitd does not tell which image it has made: no {_DESCRIPTOR_HEADER}"
        )
    try:
        return decode_descriptor(base64.b64decode(header, validate=True))
    except binascii.Error as error:
        raise InvalidArgumentError(f"{_DESCRIPTOR_HEADER} is no base64: {error}") from error
