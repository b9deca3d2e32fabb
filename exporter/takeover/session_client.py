"""A client of the daemon whose session passes through the proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc.aio

from exporter.rpc.channel import FrameChannel
from exporter.rpc.http2.calling import Caller

FILE_SEND_SERVICE = "moby.filesync.v1.FileSend"
FILE_SEND_METHOD = f"/{FILE_SEND_SERVICE}/DiffCopy"
FIND_EXPORTERS_METHOD = "/moby.exporter.v1.Exporter/FindExporters"
CONTENT_WRITE_METHOD = "/containerd.services.content.v1.Content/Write"


@dataclass(frozen=True, slots=True, eq=False)
class SessionClient:
    """A client with an attached session.

    Attributes:
        session_id: The ID of its session.
        methods: The methods that it announced, in lower case.
        caller: Makes calls over the client's connection; raises `UnavailableError` if it is not connected.
    """

    session_id: str
    methods: frozenset[str]
    caller: Callable[[], Caller]

    def supports(self, method: str) -> bool:
        """Whether it announced ``/package.Service/Method``."""
        return method.lower() in self.methods

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        """A channel to its services while the block runs."""
        async with FrameChannel(self.caller()) as channel:
            yield channel
