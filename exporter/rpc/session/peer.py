"""The other end of a session, as far as calls to it go."""

from __future__ import annotations

from typing import Protocol

import grpc.aio


class Peer(Protocol):
    """A client whose services can be called."""

    @property
    def channel(self) -> grpc.aio.Channel:
        """Reaches its services. When it is gone, calls fail with ``UNAVAILABLE``."""
        ...

    def supports(self, method: str) -> bool:
        """Whether it announced ``/package.Service/Method``; case does not count, as in BuildKit."""
        ...
