"""A plugin server as a backend, and what it is given of the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from exporter.errors import NotFoundError
from exporter.pb.buildkit.exporter.v1 import exporter_pb2 as pb
from exporter.pb.moby.buildkit.v1 import control_pb2_grpc
from exporter.pb.moby.exporter.v1 import exporter_pb2 as session_exporter_pb2
from exporter.pb.moby.filesync.v1 import auth_pb2, auth_pb2_grpc
from exporter.progress.model import StatusUpdate, Vertex
from exporter.progress.producer import now
from exporter.remotes.registry import RegistryOptions
from exporter.remotes.registry.credentials import Credentials
from exporter.remotes.registry.operator import OperatorCredentials
from exporter.takeover.access import OperatorAccess, PassedOnAuth
from exporter.takeover.plugin_calls import _ending_vertices
from exporter.takeover.plugin_server import PluginBackend
from exporter.takeover.session import SwallowedError, keep_result
from tests.sessions import serving
from tests.unit.server.running import WaitingExporter, running


def ignore(update: StatusUpdate) -> None:
    pass


async def test_a_token_of_somebody_else_is_published_but_not_released(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        WaitingExporter.gate.may_end.set()
        backend = PluginBackend(server.channel, "here", "test")
        token = (await server.export(pb.ExportRequest(type="waiting"))).finalize_token
        await backend.discard(token)
        assert await backend.finalize(token, ignore) == {"published": "yes"}
        with pytest.raises(NotFoundError):
            await backend.finalize("unknown", ignore)


def test_what_runs_when_the_call_is_cancelled_is_shown_as_cancelled() -> None:
    shown: list[StatusUpdate] = []
    begun = {name: Vertex(digest=name, name=name, started=now()) for name in ("ended", "running")}
    waiting = Vertex(digest="waiting", name="waiting")
    with pytest.raises(asyncio.CancelledError), _ending_vertices(shown.append) as report:
        report(StatusUpdate(vertexes=(*begun.values(), waiting)))
        ended = Vertex(digest="ended", name="ended", started=begun["ended"].started, completed=now())
        report(StatusUpdate(vertexes=(ended,)))
        raise asyncio.CancelledError
    (last,) = shown[-1].vertexes
    assert (last.digest, bool(last.error)) == ("running", True)
    assert len(shown) == 3


async def test_a_daemon_that_does_not_tell_its_records() -> None:
    async with serving() as channel:
        request = session_exporter_pb2.FindExportersRequest(refs=["r"]).SerializeToString()
        with pytest.raises(SwallowedError):
            await keep_result(cast(Any, None), request, control_pb2_grpc.ControlStub(channel))


class Auth(auth_pb2_grpc.AuthServicer):
    """The client's credentials."""

    async def Credentials(self, request: Any, context: Any) -> auth_pb2.CredentialsResponse:  # noqa: N802
        return auth_pb2.CredentialsResponse(Username="client", Secret=request.Host)

    async def FetchToken(self, request: Any, context: Any) -> auth_pb2.FetchTokenResponse:  # noqa: N802
        raise NotImplementedError

    async def GetTokenAuthority(  # noqa: N802
        self, request: Any, context: Any
    ) -> auth_pb2.GetTokenAuthorityResponse:
        raise NotImplementedError

    async def VerifyTokenAuthority(  # noqa: N802
        self, request: Any, context: Any
    ) -> auth_pb2.VerifyTokenAuthorityResponse:
        raise NotImplementedError

    def register(self, server: grpc.aio.Server) -> None:
        auth_pb2_grpc.add_AuthServicer_to_server(self, server)


class Client:
    """A client that lends its credentials, or not."""

    def __init__(self, channel: grpc.aio.Channel, *, has_auth: bool) -> None:
        self._channel = channel
        self._has_auth = has_auth

    def supports(self, method: str) -> bool:
        return self._has_auth

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        yield self._channel


class Lent:
    async def get(self, host: str) -> Credentials:
        return Credentials("operator", "secret", origin="a file")


async def ask(host: str, *, lends: bool, has_auth: bool = True) -> str:
    """Whose credentials are shown to a registry."""
    operator = None
    if lends:
        lent = OperatorCredentials(Lent(), ["lent.example"])
        operator = OperatorAccess(lent, RegistryOptions())
    async with serving(Auth().register) as client:
        passed = PassedOnAuth(cast(Any, Client(client, has_auth=has_auth)), operator)
        async with serving(passed.register) as channel:
            stub = auth_pb2_grpc.AuthStub(channel)
            response = await stub.Credentials(auth_pb2.CredentialsRequest(Host=host))
    return response.Username


async def test_the_operators_credentials_are_for_the_registries_that_they_are_lent_for() -> None:
    assert await ask("lent.example", lends=True) == "operator"
    assert await ask("other.example", lends=True) == "client"
    assert await ask("lent.example", lends=False) == "client"


async def test_a_client_without_credentials_says_so() -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="the client has no") as caught:
        await ask("other.example", lends=False, has_auth=False)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
