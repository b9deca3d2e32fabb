"""Credentials and tokens of the client that asked, through its session."""

# ruff: noqa: N802 (methods are named as in the .proto)

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from exporter.errors import ExporterError, FailedPreconditionError, UnavailableError
from exporter.pb.moby.filesync.v1 import auth_pb2, auth_pb2_grpc
from exporter.remotes.registry import Credentials
from exporter.remotes.session.auth import Connect, SessionCredentials, SessionTokens
from exporter.rpc.session.manager import Session
from tests.sessions import attached

HOST = "r.example:5000"
REALM = "https://tokens.example/t"
SCOPES = ["repository:app:pull,push"]


class Client(auth_pb2_grpc.AuthServicer):
    """A client; keeps what it was asked.

    Attributes:
        failing: Codes to answer with, by method.
    """

    def __init__(self, user: str = "jo", secret: str = "hunter2", key: bytes = bytes(32)) -> None:
        self.asked: list[Any] = []
        self.failing: dict[str, grpc.StatusCode] = {}
        self.token = auth_pb2.FetchTokenResponse(Token="fresh", ExpiresIn=300)
        self._login = auth_pb2.CredentialsResponse(Username=user, Secret=secret)
        self._key = key

    def register(self, server: grpc.aio.Server) -> None:
        auth_pb2_grpc.add_AuthServicer_to_server(self, server)

    async def _note(self, method: str, request: Any, context: Any) -> None:
        self.asked.append(request)
        if method in self.failing:
            await context.abort(self.failing[method], f"no {method} today")

    async def Credentials(self, request: Any, context: Any) -> auth_pb2.CredentialsResponse:
        await self._note("Credentials", request, context)
        return self._login

    async def FetchToken(self, request: Any, context: Any) -> auth_pb2.FetchTokenResponse:
        await self._note("FetchToken", request, context)
        return self.token

    async def VerifyTokenAuthority(self, request: Any, context: Any) -> auth_pb2.VerifyTokenAuthorityResponse:
        raise NotImplementedError

    async def GetTokenAuthority(self, request: Any, context: Any) -> auth_pb2.GetTokenAuthorityResponse:
        await self._note("GetTokenAuthority", request, context)
        return auth_pb2.GetTokenAuthorityResponse(PublicKey=self._key)


def connecting(session: Session | Exception) -> Connect:
    @asynccontextmanager
    async def connect() -> AsyncIterator[Session]:
        if isinstance(session, Exception):
            raise session
        yield session

    return connect


@asynccontextmanager
async def credentials_of(*clients: Client | Exception | None) -> AsyncIterator[SessionCredentials]:
    """Those of sessions of these clients; None is a client without credentials."""
    async with AsyncExitStack() as stack:
        sessions: list[Session | Exception] = []
        for client in clients:
            if isinstance(client, Exception):
                sessions.append(client)
            else:
                services = () if client is None else (client.register,)
                sessions.append(await stack.enter_async_context(attached(*services)))
        yield SessionCredentials([connecting(session) for session in sessions])


@pytest.mark.parametrize(
    ("user", "secret", "found"),
    [
        ("jo", "hunter2", Credentials("jo", "hunter2")),
        ("", "old", Credentials(identity_token="old")),
        ("", "", Credentials()),
    ],
)
async def test_users_and_passwords(user: str, secret: str, found: Credentials) -> None:
    client = Client(user, secret)
    async with credentials_of(client) as credentials:
        assert await credentials.get(HOST) == found
        assert await credentials.get("docker.io") == found
    assert [request.Host for request in client.asked] == [HOST, "registry-1.docker.io"]


async def test_tokens_are_fetched_by_the_client() -> None:
    client = Client()
    async with credentials_of(client) as credentials:
        source = await credentials.token_source("docker.io")
        assert source is not None
        token = await source.fetch(REALM, "s", SCOPES)
    assert (token.value, token.lifetime) == ("fresh", 300)
    question, request = client.asked
    assert question.Host == "registry-1.docker.io"
    assert len(question.Salt) == 32
    assert request == auth_pb2.FetchTokenRequest(
        ClientID="buildkit-exporter", Host="registry-1.docker.io", Realm=REALM, Service="s", Scopes=SCOPES
    )
    assert "docker login docker.io" in source.advice(401)
    assert "check the repository's name and your rights" in source.advice(403)


@pytest.mark.parametrize(
    ("issued", "expires", "lifetime"),
    [(0, 0, 60), (0, -5, 60), (-100, 300, 200), (-900, 300, -600), (900, 300, 300), (0, 10, 10)],
)
async def test_how_long_tokens_are_good(issued: int, expires: int, lifetime: int) -> None:
    client = Client()
    client.token.ExpiresIn = expires
    client.token.IssuedAt = int(time.time()) + issued if issued else 0
    async with credentials_of(client) as credentials:
        token = await SessionTokens(credentials, HOST).fetch(REALM, "s", SCOPES)
    assert token.lifetime == pytest.approx(lifetime, abs=30)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE])
async def test_clients_that_fetch_no_tokens(code: grpc.StatusCode) -> None:
    """A BuildKit client with BUILDKIT_NO_CLIENT_TOKEN answers like this; then the password is requested."""
    client = Client()
    client.failing["GetTokenAuthority"] = code
    async with credentials_of(client) as credentials:
        assert await credentials.token_source(HOST) is None
        assert (await credentials.get(HOST)).username == "jo"


@pytest.mark.parametrize("size", [0, 31, 33])
async def test_invalid_keys_are_refused(size: int) -> None:
    async with credentials_of(Client(key=bytes(size))) as credentials:
        with pytest.raises(FailedPreconditionError, match=f"a key of {size} bytes for the tokens of {HOST}"):
            await credentials.token_source(HOST)


async def test_a_client_without_credentials_is_anonymous() -> None:
    async with credentials_of(None) as credentials:
        assert await credentials.token_source(HOST) is None
        found = await credentials.get(HOST)
        assert found.anonymous
        assert "which has no moby.filesync.v1.Auth: log in with" in found.advice(HOST, 401)
    found = await SessionCredentials(()).get(HOST)
    assert found.anonymous
    assert "which names no session" in found.advice(HOST, 401)


@pytest.mark.parametrize("method", ["Credentials", "FetchToken", "GetTokenAuthority"])
async def test_failures_of_the_client(method: str) -> None:
    client = Client()
    client.failing[method] = grpc.StatusCode.UNKNOWN
    async with credentials_of(client) as credentials:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "Credentials": lambda: credentials.get(HOST),
            "FetchToken": lambda: credentials.fetch_token(HOST, REALM, "s", SCOPES),
            "GetTokenAuthority": lambda: credentials.token_source(HOST),
        }
        with pytest.raises(FailedPreconditionError, match=f"{HOST}.*: no {method} today"):
            await calls[method]()


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "ü"])
async def test_unusable_tokens_are_refused(token: str) -> None:
    client = Client()
    client.token.Token = token
    async with credentials_of(client) as credentials:
        with pytest.raises(UnavailableError, match="its answer has none"):
            await credentials.fetch_token(HOST, REALM, "s", SCOPES)


# Several sessions: the first one counts that has an answer.

GONE = UnavailableError("no active session")


async def test_the_first_session_that_has_an_answer() -> None:
    first, second = Client("jo"), Client("al")
    async with credentials_of(None, GONE, first, second) as credentials:
        assert (await credentials.get(HOST)).username == "jo"
        assert (await credentials.fetch_token(HOST, REALM, "s", SCOPES)).value == "fresh"
        first.failing["Credentials"] = grpc.StatusCode.UNKNOWN
        assert (await credentials.get(HOST)).username == "al"
    assert len(second.asked) == 1


async def test_no_session_has_an_answer() -> None:
    async with credentials_of(None, GONE) as credentials:
        for call in (credentials.get, credentials.token_source):
            with pytest.raises(ExporterError, match=f"{HOST}: no active session"):
                await call(HOST)
