"""Answering challenges: tokens from a token server, users and passwords."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from exporter.errors import PermissionDeniedError, UnavailableError
from exporter.remotes.registry.auth import Authorizer
from exporter.remotes.registry.client import HTTPClient
from exporter.remotes.registry.credentials import Credentials, StaticCredentials
from exporter.remotes.registry.retry import Retries, RetryPolicy


class TokenServer:
    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], str | None]] = []
        self.status = 200
        self.answer: object = None
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.Response:
        form = dict(await request.post()) if request.method == "POST" else {}
        query = {k: ",".join(request.query.getall(k)) for k in request.query} | {
            k: str(v) for k, v in form.items()
        }
        self.requests.append((request.method, query, request.headers.get("Authorization")))
        answer = {"token": f"t{len(self.requests)}", "expires_in": 300}
        return web.json_response(answer if self.answer is None else self.answer, status=self.status)


@pytest.fixture
async def tokens() -> AsyncIterator[TokenServer]:
    server = TokenServer()
    runner = web.ServerRunner(web.Server(server.handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/token"
    yield server
    await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[HTTPClient]:
    tls = ssl.create_default_context()
    async with HTTPClient(tls, connections=2, stall_seconds=30) as client:
        yield client


class Requester:
    """Authorizes requests as the transport does."""

    def __init__(self, http: HTTPClient, credentials: Credentials | None = None) -> None:
        self.source = CountingCredentials(credentials or Credentials())
        self.pauses: list[float] = []
        self._authorizer = Authorizer(http, "r.example", self.source)

    async def header(self, scopes: tuple[str, ...]) -> str | None:
        async def sleep(seconds: float) -> None:
            self.pauses.append(seconds)

        return await self._authorizer.header(scopes, Retries(RetryPolicy(sleep=sleep)))

    def refuse(self, header: str, scopes: tuple[str, ...], refused: str | None = None) -> None:
        self._authorizer.challenged([header], scopes, refused)


class CountingCredentials(StaticCredentials):
    def __init__(self, credentials: Credentials) -> None:
        super().__init__({"r.example": credentials})
        self.asked = 0

    async def get(self, host: str) -> Credentials:
        self.asked += 1
        return await super().get(host)


PULL = ("repository:app:pull",)
PUSH = ("repository:app:pull,push",)


async def test_tokens_are_kept_until_they_are_refused(http: HTTPClient, tokens: TokenServer) -> None:
    requester = Requester(http, Credentials("jo", "pw"))
    assert await requester.header(PULL) is None
    challenge = f'Bearer realm="{tokens.url}?fixed=1",service="r.example"'
    requester.refuse(challenge, PULL)
    assert await requester.header(PULL) == "Bearer t1"
    assert await requester.header(PUSH) == "Bearer t2"
    assert await requester.header(PULL) == "Bearer t1"
    requester.refuse(challenge, PULL, "Bearer t1")
    assert await requester.header(PULL) == "Bearer t3"
    assert await requester.header(PUSH) == "Bearer t2"
    method, query, authorization = tokens.requests[0]
    expected = {"fixed": "1", "service": "r.example", "scope": PULL[0], "account": "jo"}
    assert (method, query) == ("GET", expected)
    assert authorization == f"Basic {base64.b64encode(b'jo:pw').decode()}"
    assert requester.source.asked == 1


async def test_a_token_is_requested_once(http: HTTPClient, tokens: TokenServer) -> None:
    requester = Requester(http)
    requester.refuse(f'Bearer realm="{tokens.url}"', PUSH)
    headers = await asyncio.gather(*(requester.header(PUSH) for _ in range(5)))
    assert headers == ["Bearer t1"] * 5


async def test_a_token_that_ends_soon_is_renewed(
    http: HTTPClient, tokens: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("exporter.remotes.registry.auth.time.monotonic", lambda: clock[0])
    requester = Requester(http)
    requester.refuse(f'Bearer realm="{tokens.url}"', PUSH)
    assert await requester.header(PUSH) == "Bearer t1"
    clock[0] += 280
    assert await requester.header(PUSH) == "Bearer t1"
    clock[0] += 15
    assert await requester.header(PUSH) == "Bearer t2"


async def test_other_resources_that_the_registry_wants(http: HTTPClient, tokens: TokenServer) -> None:
    requester = Requester(http)
    wanted = "repository:app:pull repository:mirror/app:pull"
    requester.refuse(f'Bearer realm="{tokens.url}",scope="{wanted}"', PUSH)
    await requester.header(PUSH)
    assert tokens.requests[0][1]["scope"] == f"{PUSH[0]},repository:mirror/app:pull"


async def test_identity_tokens_go_by_oauth2(http: HTTPClient, tokens: TokenServer) -> None:
    tokens.answer = {"access_token": "fresh"}
    requester = Requester(http, Credentials(identity_token="old"))
    requester.refuse(f'Bearer realm="{tokens.url}",service=s', PUSH)
    assert await requester.header(PUSH) == "Bearer fresh"
    method, form, _ = tokens.requests[0]
    assert method == "POST"
    assert form == {
        "grant_type": "refresh_token",
        "refresh_token": "old",
        "scope": PUSH[0],
        "service": "s",
        "client_id": "buildkit-exporter",
    }


async def test_registry_tokens_need_no_server(http: HTTPClient) -> None:
    requester = Requester(http, Credentials(registry_token="given"))
    requester.refuse("Bearer realm=http://127.0.0.1:1", PUSH)
    assert await requester.header(PUSH) == "Bearer given"


async def test_users_and_passwords(http: HTTPClient) -> None:
    requester = Requester(http, Credentials("jö", "p:w"))
    requester.refuse('Basic realm="r"', PULL)
    assert await requester.header(PULL) == f"Basic {base64.b64encode('jö:p:w'.encode()).decode()}"


async def test_a_token_is_better_than_a_password(http: HTTPClient, tokens: TokenServer) -> None:
    requester = Requester(http, Credentials("jo", "pw"))
    requester.refuse(f'Basic realm="r", Bearer realm="{tokens.url}"', PULL)
    assert await requester.header(PULL) == "Bearer t1"


@pytest.mark.parametrize("header", ['Basic realm="r"', "Negotiate", ""])
async def test_no_credentials_for_a_challenge(http: HTTPClient, header: str) -> None:
    requester = Requester(http)
    requester.refuse(header, PULL)
    assert await requester.header(PULL) is None


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_refusals_say_what_to_do(http: HTTPClient, tokens: TokenServer, status: int) -> None:
    tokens.status = status
    for credentials, who in (
        (Credentials(), "an anonymous user"),
        (Credentials("jo", "hunter2"), "jo"),
        (Credentials(identity_token="hunter2"), "the saved token"),
    ):
        requester = Requester(http, credentials)
        requester.refuse(f'Bearer realm="{tokens.url}"', PUSH)
        message = rf"gives {who} no access for repository:app:pull,push.*{status}.*docker login r\.example"
        with pytest.raises(PermissionDeniedError, match=message) as caught:
            await requester.header(PUSH)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("answer", [{"no": "token"}, [], "t", {"token": 5}, {"token": "a\nb"}, {"token": ""}])
async def test_answers_without_a_token(http: HTTPClient, tokens: TokenServer, answer: object) -> None:
    tokens.answer = answer
    requester = Requester(http)
    requester.refuse(f'Bearer realm="{tokens.url}"', PUSH)
    with pytest.raises(UnavailableError, match="was asked for a token and answered without one"):
        await requester.header(PUSH)


async def test_a_token_server_that_fails(http: HTTPClient, tokens: TokenServer) -> None:
    tokens.status = 500
    requester = Requester(http)
    requester.refuse(f'Bearer realm="{tokens.url}"', PUSH)
    with pytest.raises(
        UnavailableError, match="getting a token for repository:app:pull,push: .* answered 500"
    ):
        await requester.header(PUSH)
    assert len(requester.pauses) == 4


@pytest.mark.parametrize("header", ["Bearer", 'Bearer realm=""', 'Bearer realm="file:///etc/passwd"'])
async def test_no_token_server(http: HTTPClient, header: str) -> None:
    requester = Requester(http)
    requester.refuse(header, PUSH)
    with pytest.raises(UnavailableError, match="names no server"):
        await requester.header(PUSH)
