"""The peer of a session, whose services we call."""

from __future__ import annotations

from typing import Protocol

import grpc.aio


class Peer(Protocol):
    """A client whose services can be called."""

    @property
    def channel(self) -> grpc.aio.Channel:
        """A channel to its services. Calls fail with ``UNAVAILABLE`` once the client is gone."""
        ...

    def supports(self, method: str) -> bool:
        """Whether it announced ``/package.Service/Method``; case-insensitive, as in BuildKit."""
        ...
