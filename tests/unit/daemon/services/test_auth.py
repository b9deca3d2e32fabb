"""Registry credentials and tokens through a session."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from aiohttp import web
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from exporter.daemon.services.auth import AuthServicer
from exporter.pb.moby.filesync.v1 import auth_pb2, auth_pb2_grpc
from exporter.remotes.registry import RegistryOptions
from exporter.remotes.registry.credentials import Credentials, DockerCredentials, StaticCredentials
from tests.sessions import serving

HOST = "r.example"


def servicer_of(credentials: Credentials | None = None) -> AuthServicer:
    known = {} if credentials is None else {HOST: credentials}
    return AuthServicer(RegistryOptions(credentials=StaticCredentials(known)), environ={})


@asynccontextmanager
async def stub_of(servicer: AuthServicer) -> AsyncIterator[auth_pb2_grpc.AuthStub]:
    async with serving(servicer.register) as channel:
        yield auth_pb2_grpc.AuthStub(channel)


async def ask(servicer: AuthServicer, host: str) -> tuple[str, str]:
    async with stub_of(servicer) as stub:
        response = await stub.Credentials(auth_pb2.CredentialsRequest(Host=host))
        return response.Username, response.Secret


async def test_from_docker_s_configuration(tmp_path: Path) -> None:
    def login(user: str) -> dict[str, str]:
        return {"auth": base64.b64encode(f"{user}:secret of {user}".encode()).decode()}

    auths = {"https://index.docker.io/v1/": login("hub"), "registry.example:5000": login("own")}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    servicer = AuthServicer(RegistryOptions(credentials=DockerCredentials(tmp_path / "config.json")))
    assert await ask(servicer, "registry-1.docker.io") == ("hub", "secret of hub")
    assert await ask(servicer, "registry.example:5000") == ("own", "secret of own")
    assert await ask(servicer, "elsewhere.example") == ("", "")


async def test_an_identity_token_comes_without_a_user() -> None:
    servicer = servicer_of(Credentials(username="u", password="p", identity_token="t"))
    assert await ask(servicer, HOST) == ("", "t")


class TokenServer:
    """Issues tokens, and records the requests."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], str | None]] = []
        self.answer: Mapping[str, object] = {"token": "fresh", "expires_in": 300}
        self.status = 200
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.Response:
        form = await request.post() if request.method == "POST" else {}
        fields = {**dict(request.query), **{key: str(value) for key, value in form.items()}}
        self.asked.append((request.method, fields, request.headers.get("Authorization")))
        return web.json_response(self.answer, status=self.status)


@pytest.fixture
async def tokens() -> AsyncIterator[TokenServer]:
    server = TokenServer()
    runner = web.ServerRunner(web.Server(server.handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/token"
    yield server
    await runner.cleanup()


async def fetch(servicer: AuthServicer, realm: str) -> auth_pb2.FetchTokenResponse:
    async with stub_of(servicer) as stub:
        request = auth_pb2.FetchTokenRequest(
            ClientID="a-daemon", Host=HOST, Realm=realm, Service="s", Scopes=["repository:app:pull"]
        )
        return await stub.FetchToken(request)


@pytest.mark.parametrize(
    ("credentials", "method", "fields", "authorization"),
    [
        (Credentials(), "GET", {}, None),
        (
            Credentials("jo", "pw"),
            "POST",
            {
                "grant_type": "password",
                "username": "jo",
                "password": "pw",
                "client_id": "buildkit-exporter",
            },
            None,
        ),
        (
            Credentials(identity_token="old"),
            "POST",
            {"grant_type": "refresh_token", "refresh_token": "old", "client_id": "buildkit-exporter"},
            None,
        ),
    ],
)
async def test_tokens_are_fetched(
    tokens: TokenServer,
    credentials: Credentials,
    method: str,
    fields: Mapping[str, str],
    authorization: str | None,
) -> None:
    response = await fetch(servicer_of(credentials), tokens.url)
    assert (response.Token, response.ExpiresIn) == ("fresh", 300)
    wanted = {"service": "s", "scope": "repository:app:pull", **fields}
    assert tokens.asked == [(method, wanted, authorization)]


async def test_a_token_of_the_configuration(tokens: TokenServer) -> None:
    response = await fetch(servicer_of(Credentials(registry_token="given")), tokens.url)
    assert response.Token == "given"
    assert tokens.asked == []


async def test_credentials_that_the_token_server_refuses(tokens: TokenServer) -> None:
    tokens.status = 401
    with pytest.raises(grpc.aio.AioRpcError, match="docker login r.example") as caught:
        await fetch(servicer_of(Credentials("jo", "hunter2")), tokens.url)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "hunter2" not in str(caught.value)


async def authority(servicer: AuthServicer, salt: bytes, host: str = HOST) -> bytes:
    async with stub_of(servicer) as stub:
        request = auth_pb2.GetTokenAuthorityRequest(Host=host, Salt=salt)
        return (await stub.GetTokenAuthority(request)).PublicKey


async def sign(servicer: AuthServicer, salt: bytes, payload: bytes) -> bytes:
    async with stub_of(servicer) as stub:
        request = auth_pb2.VerifyTokenAuthorityRequest(Host=HOST, Salt=salt, Payload=payload)
        return (await stub.VerifyTokenAuthority(request)).Signed


async def test_token_authorities_sign_payloads() -> None:
    servicer, other = servicer_of(Credentials("jo", "pw")), servicer_of(Credentials("jo", "pw"))
    key = VerifyKey(await authority(servicer, b"salt"))
    assert key.verify(await sign(servicer, b"salt", b"payload")) == b"payload"
    for wrong in (await sign(other, b"salt", b"payload"), await sign(servicer, b"pepper", b"payload")):
        with pytest.raises(BadSignatureError):
            key.verify(wrong)
    assert await authority(servicer, b"salt", "elsewhere.example") != bytes(key)


async def test_the_key_for_anonymous_tokens_depends_on_the_salt_only() -> None:
    """The key is that of BuildKit's own clients: HMAC-SHA256 of nothing, with the daemon's salt."""
    assert await authority(servicer_of(), b"salt") == await authority(servicer_of(), b"salt")
    key = await authority(servicer_of(), bytes(range(32)))
    assert key.hex() == "040621616cad1cec87d58de663a3da915dc2bf8afbd0bd361931d2c207644cc4"


async def test_tokens_can_be_left_to_the_daemon() -> None:
    servicer = AuthServicer(environ={"BUILDKIT_NO_CLIENT_TOKEN": "1"})
    async with stub_of(servicer) as stub:
        for call in (
            stub.GetTokenAuthority(auth_pb2.GetTokenAuthorityRequest(Host=HOST)),
            stub.VerifyTokenAuthority(auth_pb2.VerifyTokenAuthorityRequest(Host=HOST)),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
