"""An export's peers: the sources of its layers, and the receiver of its output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from exporter.content.protocol import Provider
from exporter.daemon.sending.file import METHOD as FILE_SEND_METHOD
from exporter.daemon.sending.output import CONTENT_WRITE_METHOD, SessionOutput
from exporter.exporters.base import ArtifactKind
from exporter.image import ImageError
from exporter.image.go.text import parse_bool
from exporter.image.options.attributes import TAR
from exporter.pb.buildkit.exporter.v1 import exporter_pb2
from exporter.remotes.registry import CredentialSource
from exporter.remotes.registry.hosts import EVERY_HOST
from exporter.remotes.registry.operator import LentCredentials, OperatorCredentials
from exporter.remotes.registry.options import RegistryHost
from exporter.remotes.session.auth import SessionCredentials
from exporter.rpc.allowed import AddressPattern
from exporter.rpc.session.manager import Session, SessionManager
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

    async def output(
        self, session: SessionOwner | None, request: exporter_pb2.ExportRequest, artifact: ArtifactKind
    ) -> SessionOutput | None:
        """The output for the client's files; None if the client takes none.

        Args:
            session: The client.
            request: The request.
            artifact: What the export creates. Only for files is it worth waiting for a client.

        Raises:
            UnavailableError: the session has not attached in time.
        """
        if session is None:
            return None
        takes_output = request.takes_output
        if not request.HasField("takes_output"):
            is_awaited = artifact in {ArtifactKind.ARCHIVE, ArtifactKind.FILES}
            client = await session.session() if is_awaited else session.attached()
            takes_output = client is None or _takes_output(client, request.attrs)
        return SessionOutput(session.session, request.id, self.metrics.sent) if takes_output else None

    def registries(self, wanted: Mapping[str, RegistryHost]) -> Mapping[str, RegistryHost]:
        """How to reach registries: as the client wants it, except where the operator lends credentials."""
        lent = self.operator.hosts if self.operator is not None else ()
        return {host: how for host, how in wanted.items() if host not in lent and EVERY_HOST not in lent}

    def credentials(self, session: SessionOwner | None) -> CredentialSource:
        """Whose credentials registries are shown: the client's, but for those that the operator lends."""
        sessions = () if session is None else (session.connected,)
        return LentCredentials(SessionCredentials(sessions), self.operator)


def _takes_output(session: Session, attrs: Mapping[str, str]) -> bool:
    """Whether a client can take an output, as far as the methods of its session tell.

    Clients that serve blobs with BuildKit's package announce ``Content/Write``, too. So it only counts for an
    output that goes to a directory of images.
    """
    if session.supports(FILE_SEND_METHOD):
        return True
    return _is_layout(attrs) and session.supports(CONTENT_WRITE_METHOD)


def _is_layout(attrs: Mapping[str, str]) -> bool:
    try:
        return not parse_bool(attrs.get(TAR, "true"))
    except ImageError:
        return False
