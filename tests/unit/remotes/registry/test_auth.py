"""Answering challenges: tokens from a token server, users and passwords."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from dataclasses import replace

import pytest
from aiohttp import web
from yarl import URL

from exporter.errors import ExporterError, FailedPreconditionError, PermissionDeniedError, UnavailableError
from exporter.remotes.registry import RegistryOptions
from exporter.remotes.registry.auth import Authorizer, check_safe, token_server
from exporter.remotes.registry.client import HTTPClient, Request
from exporter.remotes.registry.credentials import Credentials, StaticCredentials
from exporter.remotes.registry.retry import RequestError, Retries, RetryPolicy
from exporter.remotes.registry.tokens import Token, TokenCache, TokenSource


class TokenServer:
    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], str | None]] = []
        self.status = 200
        self.post_status: int | None = None
        self.answer: object = None
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.Response:
        form = dict(await request.post()) if request.method == "POST" else {}
        query = {k: ",".join(request.query.getall(k)) for k in request.query} | {
            k: str(v) for k, v in form.items()
        }
        self.requests.append((request.method, query, request.headers.get("Authorization")))
        if request.method == "POST" and self.post_status is not None:
            headers = {"Location": self.url} if self.post_status < 400 else {}
            return web.Response(status=self.post_status, headers=headers)
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

    def __init__(
        self, http: HTTPClient, credentials: Credentials | None = None, fetcher: TokenSource | None = None
    ) -> None:
        self.source = CountingCredentials(credentials or Credentials(), fetcher)
        self.pauses: list[float] = []
        self._authorizer = Authorizer(http, "r.example", self.source)

    async def header(self, scopes: tuple[str, ...]) -> str | None:
        async def sleep(seconds: float) -> None:
            self.pauses.append(seconds)

        return await self._authorizer.header(scopes, Retries(RetryPolicy(sleep=sleep)))

    def refuse(self, header: str, scopes: tuple[str, ...], refused: str | None = None) -> None:
        self._authorizer.challenged([header], scopes, refused)

    async def explained(self, status: int) -> str:
        failure = RequestError(PermissionDeniedError("no"), status=status)
        await self._authorizer.explain(failure)
        return failure.error.message


class CountingCredentials(StaticCredentials):
    def __init__(self, credentials: Credentials, fetcher: TokenSource | None = None) -> None:
        super().__init__({"r.example": credentials})
        self.asked = 0
        self._fetcher = fetcher

    async def get(self, host: str) -> Credentials:
        self.asked += 1
        return await super().get(host)

    async def token_source(self, host: str) -> TokenSource | None:
        return self._fetcher


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
    assert tokens.requests[0] == ("POST", {"fixed": "1", **form_of("jo", "pw", PULL[0])}, None)
    assert requester.source.asked == 1


def form_of(user: str, password: str, scope: str) -> dict[str, str]:
    names = {"username": user, "password": password, "client_id": "buildkit-exporter"}
    return {"grant_type": "password", "service": "r.example", "scope": scope, **names}


@pytest.mark.parametrize("status", [302, 307, 400, 401, 404, 405])
@pytest.mark.parametrize(
    ("credentials", "shown"),
    [(Credentials("jo", "pw"), b"jo:pw"), (Credentials(identity_token="old"), b":old")],
)
async def test_servers_without_post_are_asked_with_get(
    http: HTTPClient, tokens: TokenServer, status: int, credentials: Credentials, shown: bytes
) -> None:
    """A redirect does not forward a form, so the server is asked with GET."""
    tokens.post_status = status
    requester = Requester(http, credentials)
    requester.refuse(f'Bearer realm="{tokens.url}?fixed=1",service="r.example"', PULL)
    assert await requester.header(PULL) == "Bearer t2"
    assert [request[0] for request in tokens.requests] == ["POST", "GET"]
    expected = {"fixed": "1", "service": "r.example", "scope": PULL[0]}
    if credentials.username:
        expected["account"] = "jo"
    assert tokens.requests[1][1:] == (expected, f"Basic {base64.b64encode(shown).decode()}")
    assert requester.pauses == []


@pytest.mark.parametrize("status", [403, 429, 500])
async def test_failures_of_the_token_server_are_not_retried_with_get(
    http: HTTPClient, tokens: TokenServer, status: int
) -> None:
    tokens.post_status = status
    requester = Requester(http, Credentials("jo", "pw"))
    requester.refuse(f'Bearer realm="{tokens.url}"', PULL)
    with pytest.raises(ExporterError, match=f"answered {status}"):
        await requester.header(PULL)
    assert {request[0] for request in tokens.requests} == {"POST"}


@pytest.mark.parametrize(
    ("host", "realm", "is_plain", "is_safe"),
    [
        ("r.example", "https://tokens.example/t", False, True),
        ("r.example", "https://tokens.example/t", True, True),
        ("r.example", "http://tokens.example/t", False, False),
        ("r.example", "http://tokens.example/t", True, False),
        ("r.example:5000", "http://r.example:5001/t", True, True),
        ("r.example", "http://r.example/t", False, False),
        ("r.example", "http://127.0.0.1:1/t", False, True),
        ("r.example", "http://localhost.example/t", True, False),
    ],
)
def test_where_credentials_may_go(host: str, realm: str, is_plain: bool, is_safe: bool) -> None:
    with nullcontext() if is_safe else pytest.raises(FailedPreconditionError, match=f"^{host} sends"):
        check_safe(host, token_server(host, realm), is_plain=is_plain)


@pytest.mark.parametrize("is_session", [False, True])
async def test_credentials_do_not_go_in_the_clear(
    http: HTTPClient, monkeypatch: pytest.MonkeyPatch, is_session: bool
) -> None:
    fetcher = Fetcher()
    requester = Requester(http, Credentials("jo", "hunter2"), fetcher if is_session else None)
    requester.refuse('Bearer realm="http://tokens.example/t"', PULL)
    with pytest.raises(
        FailedPreconditionError, match="r.example sends .* http://tokens.example, which"
    ) as caught:
        await requester.header(PULL)
    assert "hunter2" not in str(caught.value)
    assert fetcher.asked == []


async def test_anonymous_requests_may_use_plain_http(http: HTTPClient) -> None:
    requester = Requester(http)
    requester.refuse('Bearer realm="http://tokens.invalid/t"', PULL)
    with pytest.raises(UnavailableError, match="unknown host tokens.invalid"):
        await requester.header(PULL)


class Fetcher:
    """Fetches tokens without showing credentials."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, tuple[str, ...]]] = []

    async def fetch(self, realm: str, service: str, scopes: Sequence[str]) -> Token:
        self.asked.append((realm, service, tuple(scopes)))
        return Token(f"f{len(self.asked)}", 300)

    def advice(self, status: int) -> str:
        return f"{status}: ask the fetcher"


async def test_tokens_can_be_fetched_by_the_client(http: HTTPClient, tokens: TokenServer) -> None:
    fetcher = Fetcher()
    requester = Requester(http, Credentials("jo", "pw"), fetcher)
    challenge = f'Bearer realm="{tokens.url}",service="s",scope="repository:mirror/app:pull"'
    requester.refuse(challenge, PULL)
    assert await requester.header(PULL) == "Bearer f1"
    assert await requester.header(PULL) == "Bearer f1"
    requester.refuse(challenge, PULL, "Bearer f1")
    assert await requester.header(PULL) == "Bearer f2"
    assert fetcher.asked == [(tokens.url, "s", (*PULL, "repository:mirror/app:pull"))] * 2
    assert tokens.requests == []
    assert await requester.explained(401) == "no; 401: ask the fetcher"
    assert requester.source.asked == 0, "the credentials stay where they are"


async def test_a_password_is_asked_for_where_there_are_no_tokens(http: HTTPClient) -> None:
    requester = Requester(http, Credentials("jo", "pw"), Fetcher())
    requester.refuse('Basic realm="r"', PULL)
    assert await requester.header(PULL) == f"Basic {base64.b64encode(b'jo:pw').decode()}"


async def test_tokens_serve_later_pushes_of_the_same_user_only(http: HTTPClient, tokens: TokenServer) -> None:
    options = RegistryOptions(credentials=StaticCredentials({"r.example": Credentials("jo", "pw")}))

    async def header(options: RegistryOptions) -> str | None:
        authorizer = Authorizer(http, "r.example", options.credentials, options.tokens)
        authorizer.challenged([f'Bearer realm="{tokens.url}"'], PUSH, None)
        return await authorizer.header(PUSH, Retries(RetryPolicy()))

    assert [await header(options), await header(options)] == ["Bearer t1", "Bearer t1"]
    assert await header(replace(options, credentials=StaticCredentials())) == "Bearer t2"
    assert await header(replace(options, concurrency=1)) == "Bearer t3", "no copy has them"


def test_secrets_are_not_shown() -> None:
    credentials = Credentials("jo", "hunter2", "hunter2", "hunter2")
    request = Request(
        method="POST", url=URL("https://t.example"), what="asking", body={"password": "hunter2"}
    )
    cache = TokenCache()
    cache.keep("r.example", PULL, Token("hunter2", 300))
    options = RegistryOptions(credentials=StaticCredentials({"r.example": credentials}))
    for value in (credentials, request, Token("hunter2", 300), cache, options):
        assert "hunter2" not in repr(value)


async def test_a_token_is_requested_once(http: HTTPClient, tokens: TokenServer) -> None:
    requester = Requester(http)
    requester.refuse(f'Bearer realm="{tokens.url}"', PUSH)
    headers = await asyncio.gather(*(requester.header(PUSH) for _ in range(5)))
    assert headers == ["Bearer t1"] * 5


async def test_a_token_that_ends_soon_is_renewed(
    http: HTTPClient, tokens: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("exporter.remotes.registry.tokens.time.monotonic", lambda: clock[0])
    requester = Requester(http)
    requester.refuse(f'Bearer realm="{tokens.url}"', PUSH)
    assert await requester.header(PUSH) == "Bearer t1"
    clock[0] += 280
    assert await requester.header(PUSH) == "Bearer t1"
    clock[0] += 15
    assert await requester.header(PUSH) == "Bearer t2"


async def test_scopes_of_the_challenge_are_requested(http: HTTPClient, tokens: TokenServer) -> None:
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


async def test_tokens_take_precedence_over_passwords(http: HTTPClient, tokens: TokenServer) -> None:
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


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        *(
            f'Bearer realm="{realm}"'
            for realm in (
                *("", "file:///etc/passwd", "tokens.example/t", "http://", "https://[::1", "https://h:port/"),
                *("https://h:99999/", "https://h:0/", "https://jo:pw@h/", "https://h/a b", "https://h/ä"),
                *("https://ä.example/", "https://xn--/", f"https://{'a' * 300}/"),
            )
        ),
    ],
)
async def test_an_unreachable_token_server_is_reported(http: HTTPClient, header: str) -> None:
    requester = Requester(http)
    requester.refuse(header, PUSH)
    with pytest.raises(UnavailableError, match="^r.example asks for a token but names no server"):
        await requester.header(PUSH)
