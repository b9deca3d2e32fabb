from __future__ import annotations

from exporter.content.memory import MemoryStore
from exporter.exporters.base import ArtifactKind
from exporter.pb.buildkit.exporter.v1 import exporter_pb2 as pb
from exporter.rpc.session.attach import attach
from exporter.rpc.session.manager import SessionManager
from exporter.server.metrics import Metrics
from exporter.server.peers import Peers
from tests.sessions import session_server


def peers(sessions: SessionManager) -> Peers:
    return Peers(sessions=sessions, session_timeout=30, store=MemoryStore(), allowed=(), metrics=Metrics())


async def test_a_request_without_a_session_has_no_client() -> None:
    found = peers(SessionManager())
    assert found.session("") is None
    assert await found.output(None, pb.ExportRequest(), ArtifactKind.ARCHIVE) is None
    credentials = await found.credentials(None).get("registry.example")
    assert credentials.anonymous
    assert "names no session" in credentials.origin


async def test_a_request_with_a_session_has_a_client() -> None:
    async with session_server() as (sessions, channel), attach(channel, [], session_id="s") as attachment:
        found = peers(sessions)
        session = found.session("s")
        assert session is not None
        assert (await session.session()).id == attachment.id
        takes = pb.ExportRequest(takes_output=True)
        assert await found.output(session, takes, ArtifactKind.ARCHIVE) is not None
        credentials = await found.credentials(session).get("registry.example")
    assert "the client's session" in credentials.origin
