"""A client of the daemon whose session passes through here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc.aio

from exporter.rpc.session.tunnel import TUNNEL_OPTIONS, private_path
from exporter.rpc.target import unix_target

FILE_SEND_SERVICE = "moby.filesync.v1.FileSend"
FILE_SEND_METHOD = f"/{FILE_SEND_SERVICE}/DiffCopy"
FIND_EXPORTERS_METHOD = "/moby.exporter.v1.Exporter/FindExporters"
CONTENT_WRITE_METHOD = "/containerd.services.content.v1.Content/Write"


@dataclass(frozen=True, slots=True, eq=False)
class SessionClient:
    """A client that has attached itself.

    Attributes:
        session_id: Its session.
        methods: What it announced, in lower case.
        accept: Makes protocols for sockets whose streams are passed on to the client.
    """

    session_id: str
    methods: frozenset[str]
    accept: Callable[[], asyncio.Protocol]

    def supports(self, method: str) -> bool:
        """Whether it announced ``/package.Service/Method``."""
        return method.lower() in self.methods

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        """A channel to its services, for as long as the block runs."""
        with private_path() as path:
            server = await asyncio.get_running_loop().create_unix_server(self.accept, path)
            try:
                async with grpc.aio.insecure_channel(unix_target(path), TUNNEL_OPTIONS) as channel:
                    yield channel
            finally:
                server.close()
