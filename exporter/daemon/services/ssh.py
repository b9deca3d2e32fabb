"""Serving SSH agents to a daemon (``moby.sshforward.v1.SSH``): ``RUN --mount=type=ssh``, and Git over SSH."""

# ruff: noqa: N802 (methods are named as in the .proto)

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc.aio

from exporter.daemon.ssh.agents import DEFAULT_ID, OpenAgent
from exporter.daemon.ssh.protocol import FrameReader, answer_read_only, frame
from exporter.errors import NotFoundError
from exporter.pb.moby.sshforward.v1 import ssh_pb2, ssh_pb2_grpc

ID_KEY = "buildkit.ssh.id"
"""The metadata key for the ID of the agent."""

_READ_BYTES = 32 << 10

Context = grpc.aio.ServicerContext[Any, Any]


class SSHServicer(ssh_pb2_grpc.SSHServicer):
    """Serves agents. Needs a server with `exporter.rpc.status.StatusInterceptor`.

    Builds can list keys and sign with them, but not add or remove keys or lock an agent. Only
    `SSHAgent.is_raw` gives them full access to the socket.

    Args:
        agents: The agents by ID.
    """

    def __init__(self, agents: Mapping[str, OpenAgent]) -> None:
        self._agents = dict(agents)

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server."""
        ssh_pb2_grpc.add_SSHServicer_to_server(self, server)

    async def CheckAgent(
        self, request: ssh_pb2.CheckAgentRequest, context: Context
    ) -> ssh_pb2.CheckAgentResponse:
        """Check that an agent with this ID exists."""
        self._find(request.ID)
        return ssh_pb2.CheckAgentResponse()

    async def ForwardAgent(
        self, request_iterator: AsyncIterator[ssh_pb2.BytesMessage], context: Context
    ) -> AsyncIterator[ssh_pb2.BytesMessage]:
        """Forward a connection to an agent."""
        metadata = {key: value for key, value in context.invocation_metadata() or () if key == ID_KEY}
        found = self._find(str(metadata.get(ID_KEY, "")))
        if found.is_raw:
            async for data in _forwarded(found, request_iterator):
                yield ssh_pb2.BytesMessage(data=data)
            return
        agent = await found.connect()
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


async def _forwarded(agent: OpenAgent, messages: AsyncIterator[ssh_pb2.BytesMessage]) -> AsyncIterator[bytes]:
    """Forward bytes to a socket and back, until the socket closes the connection."""
    reader, writer = await agent.dial()

    async def send() -> None:
        async for message in messages:
            writer.write(message.data)
            await writer.drain()
        writer.write_eof()

    sending = asyncio.create_task(send())
    try:
        while data := await reader.read(_READ_BYTES):
            yield data
    finally:
        sending.cancel()
        await asyncio.wait((sending,))
        if not sending.cancelled():
            sending.exception()  # retrieved: the socket has closed the connection first
        writer.transport.abort()
