"""The proxy's client, as far as its session reaches."""

from __future__ import annotations

from dataclasses import dataclass

import grpc.aio

FILE_SEND_SERVICE = "moby.filesync.v1.FileSend"
FILE_SEND_METHOD = f"/{FILE_SEND_SERVICE}/DiffCopy"
FIND_EXPORTERS_METHOD = "/moby.exporter.v1.Exporter/FindExporters"
CONTENT_WRITE_METHOD = "/containerd.services.content.v1.Content/Write"


@dataclass(frozen=True, slots=True)
class SessionClient:
    """A client that has attached itself.

    Attributes:
        session_id: Its session.
        channel: Reaches its services.
        methods: What it announced, in lower case.
    """

    session_id: str
    channel: grpc.aio.Channel
    methods: frozenset[str]

    def supports(self, method: str) -> bool:
        """Whether it announced ``/package.Service/Method``."""
        return method.lower() in self.methods
