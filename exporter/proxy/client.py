"""The proxy's clients, as far as their sessions reach."""

from __future__ import annotations

from typing import Any

from exporter.takeover.session_client import SessionClient


class Clients:
    """Finds the clients that are attached, by their sessions."""

    def __init__(self) -> None:
        self._clients: dict[str, SessionClient] = {}

    def add(self, client: SessionClient) -> None:
        """Have a client found from now on."""
        self._clients[client.session_id] = client

    def remove(self, client: SessionClient) -> None:
        """Have a client not found any more."""
        if self._clients.get(client.session_id) is client:
            del self._clients[client.session_id]

    def find(self, session_id: Any) -> SessionClient | None:
        """The client of a session; None if it has gone."""
        return self._clients.get(session_id)
