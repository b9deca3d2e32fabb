"""Serving SSH agents to a daemon (``moby.sshforward.v1.SSH``): ``RUN --mount=type=ssh``, and Git over SSH."""

# ruff: noqa: N802 (methods are named as in the .proto)

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc.aio

from exporter.daemon.ssh.agents import DEFAULT_ID, OpenAgent
from exporter.daemon.ssh.protocol import FrameReader, answer_read_only, frame
from exporter.errors import NotFoundError
from exporter.pb.moby.sshforward.v1 import ssh_pb2, ssh_pb2_grpc

ID_KEY = "buildkit.ssh.id"
"""Metadata that says which agent is meant."""

Context = grpc.aio.ServicerContext[Any, Any]


class SSHServicer(ssh_pb2_grpc.SSHServicer):
    """Serves agents. Needs a server with `exporter.rpc.status.StatusInterceptor`.

    Builds can list keys and sign with them; they cannot add or remove any, or lock an agent.

    Args:
        agents: By ID.
    """

    def __init__(self, agents: Mapping[str, OpenAgent]) -> None:
        self._agents = dict(agents)

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server."""
        ssh_pb2_grpc.add_SSHServicer_to_server(self, server)

    async def CheckAgent(
        self, request: ssh_pb2.CheckAgentRequest, context: Context
    ) -> ssh_pb2.CheckAgentResponse:
        """Say whether there is an agent of that ID."""
        self._find(request.ID)
        return ssh_pb2.CheckAgentResponse()

    async def ForwardAgent(
        self, request_iterator: AsyncIterator[ssh_pb2.BytesMessage], context: Context
    ) -> AsyncIterator[ssh_pb2.BytesMessage]:
        """Carry one connection to an agent."""
        metadata = {key: value for key, value in context.invocation_metadata() or () if key == ID_KEY}
        agent = await self._find(str(metadata.get(ID_KEY, ""))).connect()
        reader = FrameReader()
        try:
            async for message in request_iterator:
                for request in reader.feed(message.data):
                    yield ssh_pb2.BytesMessage(data=frame(await answer_read_only(agent, request)))
        finally:
            await agent.close()

    def _find(self, name: str) -> OpenAgent:
        agent = self._agents.get(name or DEFAULT_ID)
        if agent is None:
            raise NotFoundError(f"unset ssh forward key {name or DEFAULT_ID}")
        return agent
