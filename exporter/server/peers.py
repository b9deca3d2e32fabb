"""An export's peers: the sources of its layers, and the receiver of its output."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from exporter.content.protocol import Provider
from exporter.daemon.sending.output import SessionOutput
from exporter.remotes.registry import CredentialSource
from exporter.remotes.registry.operator import LentCredentials, OperatorCredentials
from exporter.remotes.session.auth import SessionCredentials
from exporter.rpc.allowed import AddressPattern
from exporter.rpc.session.manager import SessionManager
from exporter.server.metrics import Metrics
from exporter.server.refs import RefOwner, RefResolver, SessionOwner


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """Finds an export's peers.

    Attributes:
        sessions: The attached sessions.
        session_timeout: How long to wait for a session, in seconds.
        store: The embedded store.
        shared: Blobs of this machine's daemons, used as a fallback; None if there is no such store.
        allowed: Patterns of addresses that requests may name.
        metrics: Counts bytes read and sent.
        daemons: Owners of refs that the operator has configured, asked after all those that a request names.
        operator: The credentials for registries that the operator lends to clients; None for none.
    """

    sessions: SessionManager
    session_timeout: float
    store: Provider
    allowed: Sequence[AddressPattern]
    metrics: Metrics
    shared: Provider | None = None
    daemons: Sequence[RefOwner] = ()
    operator: OperatorCredentials | None = None

    def session(self, session_id: str) -> SessionOwner | None:
        """The client of a request; None if the request does not name a session."""
        if not session_id:
            return None
        return SessionOwner(self.sessions, session_id, self.session_timeout)

    def refs(self, session: SessionOwner | None, resources: AsyncExitStack) -> RefResolver:
        """Create the resolver for a request's refs. `resources` closes the connections that it opens."""
        return RefResolver(
            store=self.store,
            shared=self.shared,
            session=session,
            daemons=self.daemons,
            allowed=self.allowed,
            resources=resources,
            on_read=self.metrics.read,
        )

    def output(self, session: SessionOwner | None, exporter_id: int) -> SessionOutput | None:
        """The output for the client's files; None without a client."""
        return SessionOutput(session.session, exporter_id, self.metrics.sent) if session is not None else None

    def credentials(self, session: SessionOwner | None) -> CredentialSource:
        """Whose credentials registries are shown: the client's, but for those that the operator lends."""
        sessions = () if session is None else (session.connected,)
        return LentCredentials(SessionCredentials(sessions), self.operator)
