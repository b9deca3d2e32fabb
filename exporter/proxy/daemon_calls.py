"""The daemon's calls to a client's session that the proxy answers."""

from __future__ import annotations

import grpc.aio

from exporter.daemon.services.receive import EXPORTER_ID
from exporter.pb.moby.buildkit.v1 import control_pb2_grpc
from exporter.pb.moby.exporter.v1 import exporter_pb2
from exporter.remotes.session.content import ContentClient
from exporter.rpc.forward import Call, forward
from exporter.takeover.access import OperatorAccess, access_of_client
from exporter.takeover.build import ProxiedBuild
from exporter.takeover.session import header, keep_result, run_instead
from exporter.takeover.session_client import FIND_EXPORTERS_METHOD, SessionClient


class DaemonCalls:
    """Handles the daemon's calls to clients' sessions. Messages are raw bytes.

    Args:
        daemon: The channel to the daemon.
        operator: The credentials that the operator lends to clients, if any.
    """

    def __init__(self, daemon: grpc.aio.Channel, operator: OperatorAccess | None = None) -> None:
        self._control = control_pb2_grpc.ControlStub(daemon)
        self._content = ContentClient(daemon)
        self._operator = operator

    async def find_exporters(self, client: SessionClient, build: ProxiedBuild, context: Call) -> None:
        """Store the daemon's description of its build result, and query the cache records of its refs.

        This is only possible now, because the refs may be released later. The client answers the call,
        usually by reporting that it does not have exporters.

        Raises:
            SwallowedError: the daemon does not answer.
        """
        data = await context.read()
        if data is grpc.aio.EOF:
            return
        await keep_result(build, data, self._control)
        if build.client_has_exporters and client.supports(FIND_EXPORTERS_METHOD):
            async with client.channel() as channel:
                await forward(channel, FIND_EXPORTERS_METHOD, context, first=data)
        else:
            await context.write(exporter_pb2.FindExportersResponse().SerializeToString())

    async def send_file(self, client: SessionClient, build: ProxiedBuild, context: Call) -> None:
        """Run an export of ours; see `run_instead`."""
        index = int(header(context, EXPORTER_ID))
        access = access_of_client(client, self._operator)
        await run_instead(build.exports[index], context, client, self._content, access)
