"""Access to real registries: users and passwords, tokens, certificates, plain HTTP."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from exporter.errors import FailedPreconditionError, InvalidArgumentError, PermissionDeniedError
from exporter.progress.producer import VertexProgress
from exporter.remotes.registry import Credentials, DockerCredentials, StaticCredentials
from exporter.remotes.registry.client import basic_authorization
from exporter.remotes.registry.push import push
from tests.integration.certificates import make_certificate
from tests.integration.registry.pushing import UPLOADS, Peer, noise
from tests.integration.registry.tokens import SERVICE, TokenServer, token_server
from tests.integration.registry_peer import Fault, FaultyProxy, docker_registry

# The password is "s3cret".
HTPASSWD = "jo:$2b$05$uc2/CEa8LQLCV0fh5h7P9.BuXcCZbNGX94eX.U1HOO3Mezqdt8Tzm\n"


@asynccontextmanager
async def peer_of(directory: Path, **settings: Any) -> AsyncIterator[Peer]:
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(docker_registry(directory, **settings))
        proxy = await stack.enter_async_context(FaultyProxy(upstream).run())
        yield Peer(proxy, upstream)


async def push_something(peer: Peer, seed: int = 0) -> None:
    root = await peer.add_image(await peer.add(noise(2 << 20, seed)), author=str(seed))
    await peer.push(root)


# Users and passwords


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Peer]:
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "tests", "path": str(tmp_path / "htpasswd")}}
    async with peer_of(tmp_path, auth=auth) as peer:
        yield peer


async def test_user_and_password_of_the_docker_configuration(guarded: Peer, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    secret = base64.b64encode(b"jo:s3cret").decode()
    config.write_text(json.dumps({"auths": {guarded.proxy.host: {"auth": secret}}}))
    guarded.options = guarded.make_options(credentials=DockerCredentials(config))
    await push_something(guarded)
    assert {seen.status for seen in guarded.proxy.of("GET", "/v2/$")} == {401}
    assert not [seen for seen in guarded.proxy.seen[1:] if seen.status == 401]


@pytest.mark.parametrize(
    "credentials", [Credentials(), Credentials("jo", "wrong"), Credentials("other", "s3cret")]
)
async def test_wrong_passwords(guarded: Peer, credentials: Credentials) -> None:
    source = StaticCredentials({guarded.proxy.host: credentials})
    guarded.options = guarded.make_options(credentials=source)
    with pytest.raises(PermissionDeniedError, match=f"log in with `docker login {guarded.proxy.host}`"):
        await push_something(guarded)
    assert guarded.pauses == []


# Tokens


@pytest.fixture
async def tokens(tmp_path: Path) -> AsyncIterator[TokenServer]:
    async with token_server(tmp_path) as server:
        yield server


@pytest.fixture
async def tokened(tmp_path: Path, tokens: TokenServer) -> AsyncIterator[Peer]:
    async with peer_of(tmp_path, auth=tokens.settings) as peer:
        source = StaticCredentials({peer.proxy.host: Credentials("jo", "s3cret")})
        peer.options = peer.make_options(credentials=source)
        yield peer


async def test_tokens(tokened: Peer, tokens: TokenServer) -> None:
    await push_something(tokened)
    assert tokens.asked == [("repository:app:pull,push",)], "one token does for the whole push"


async def test_a_token_that_the_registry_does_not_take(tokened: Peer, tokens: TokenServer) -> None:
    tokens.lifetime = -900
    with pytest.raises(PermissionDeniedError, match="docker login"):
        await push_something(tokened)
    assert len(tokens.asked) == 2


@pytest.mark.parametrize("method", ["HEAD", "POST", "PATCH", "PUT"])
async def test_a_token_ends_in_the_middle(tokened: Peer, tokens: TokenServer, method: str) -> None:
    ended: set[str] = set()

    def check(request: web.BaseRequest) -> web.Response | None:
        token = request.headers.get("Authorization", "")
        if request.method == method and not ended:
            ended.add(token)
        if token not in ended:
            return None
        challenge = f'Bearer realm="{tokens.url}",service="{SERVICE}",error="invalid_token"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    tokened.proxy.check = check
    await push_something(tokened)
    assert tokens.asked == [("repository:app:pull,push",)] * 2


async def test_mounting_asks_for_the_right_to_read(tokened: Peer, tokens: TokenServer) -> None:
    layer = await tokened.add(noise(1 << 20))
    sources = await tokened.push(await tokened.add_image(layer), "base:v1")
    await tokened.push(await tokened.add_image(layer), "team/app:v1", sources=sources)
    assert ("repository:team/app:pull,push", "repository:base:pull") in tokens.asked
    assert {seen.status for seen in tokened.proxy.of("POST", "mount=")} == {201}


async def test_the_token_server_fails_for_a_while(tokened: Peer, tokens: TokenServer) -> None:
    handle, failures = tokens.handle, [503, 429]

    async def failing(request: web.BaseRequest) -> web.Response:
        return web.Response(status=failures.pop()) if failures else await handle(request)

    runner = web.ServerRunner(web.Server(failing))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    realm = f"http://127.0.0.1:{runner.addresses[0][1]}/token"

    def check(request: web.BaseRequest) -> web.Response | None:
        if "Authorization" in request.headers:
            return None
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'})

    tokened.proxy.check = check
    try:
        await push_something(tokened)
    finally:
        await runner.cleanup()
    assert len(tokened.pauses) == 2


async def test_tokens_do_not_go_to_other_hosts(tokened: Peer) -> None:
    seen: list[tuple[str, str | None]] = []

    async def storage(request: web.BaseRequest) -> web.Response:
        seen.append((request.raw_path, request.headers.get("Authorization")))
        async for _ in request.content.iter_any():
            pass
        return web.Response(status=202 if request.method == "PATCH" else 201)

    runner = web.ServerRunner(web.Server(storage))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    location = f"http://127.0.0.1:{runner.addresses[0][1]}/upload?signed=a%2Fb%3D"

    def check(request: web.BaseRequest) -> web.Response | None:
        if request.method == "POST" and UPLOADS in request.path:
            return web.Response(status=202, headers={"Location": location})
        return None

    tokened.proxy.check = check
    try:
        with pytest.raises(FailedPreconditionError, match="MANIFEST_BLOB_UNKNOWN"):
            await push_something(tokened)
    finally:
        await runner.cleanup()
    address = "/upload?signed=a%2Fb%3D"
    assert {header for _, header in seen} == {None}
    assert {path.partition("&digest=sha256:")[0] for path, _ in seen} == {address}


# Certificates


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[Peer]:
    """A registry with an untrusted certificate, without a proxy in front of it."""
    await make_certificate(tmp_path, "server")
    await make_certificate(tmp_path, "client")
    tls = {"certificate": str(tmp_path / "server.crt"), "key": str(tmp_path / "server.key")}
    async with docker_registry(tmp_path, tls=tls) as host:
        yield secure_peer(host, tmp_path)


def secure_peer(host: str, directory: Path) -> Peer:
    proxy = FaultyProxy("")
    proxy.host = host
    peer = Peer(proxy, host)
    certificates = directory / "certs.d"
    (certificates / host).mkdir(parents=True)
    peer.options = peer.make_options(certs_dir=certificates)
    return peer


def trusted(peer: Peer) -> Path:
    return peer.options.certs_dir / peer.upstream


async def test_an_authority_of_dockers_directory(secure: Peer, tmp_path: Path) -> None:
    (trusted(secure) / "ca.crt").write_bytes((tmp_path / "server.crt").read_bytes())
    await push_something(secure)


async def test_an_authority_of_the_options(secure: Peer, tmp_path: Path) -> None:
    certs_dir = secure.options.certs_dir
    secure.options = secure.make_options(certs_dir=certs_dir, ca_files=(tmp_path / "server.crt",))
    await push_something(secure)


async def test_an_unknown_authority(secure: Peer, tmp_path: Path) -> None:
    (trusted(secure) / "ca.crt").write_bytes((tmp_path / "client.crt").read_bytes())
    message = f"certificate of https://{secure.upstream} is not trusted .*certs.d/{secure.upstream}/ca.crt"
    with pytest.raises(FailedPreconditionError, match=message):
        await push_something(secure)
    assert secure.pauses == []


async def test_insecure_access_accepts_any_certificate(secure: Peer) -> None:
    root = await secure.add_image(await secure.add(noise(1 << 20)))
    await secure.push(root, insecure=True)


async def test_certificates_that_cannot_be_used(secure: Peer, tmp_path: Path) -> None:
    (trusted(secure) / "me.cert").write_bytes((tmp_path / "client.crt").read_bytes())
    with pytest.raises(InvalidArgumentError, match=r"certificate .*me\.cert cannot be used.*extension \.crt"):
        await push_something(secure)
    (trusted(secure) / "me.cert").unlink()
    (trusted(secure) / "ca.crt").write_text("nonsense")
    with pytest.raises(InvalidArgumentError, match=r"certificate .*ca\.crt cannot be used"):
        await push_something(secure)


async def test_client_certificates_are_sent(tmp_path: Path) -> None:
    await make_certificate(tmp_path, "server")
    await make_certificate(tmp_path, "client")
    tls = {
        "certificate": str(tmp_path / "server.crt"),
        "key": str(tmp_path / "server.key"),
        "clientcas": [str(tmp_path / "client.crt")],
    }
    async with docker_registry(tmp_path, tls=tls) as host:
        peer = secure_peer(host, tmp_path)
        (trusted(peer) / "ca.crt").write_bytes((tmp_path / "server.crt").read_bytes())
        (trusted(peer) / "me.cert").write_bytes((tmp_path / "client.crt").read_bytes())
        (trusted(peer) / "me.key").write_bytes((tmp_path / "client.key").read_bytes())
        await push_something(peer)


# Plain HTTP


async def test_plain_http_is_used_if_allowed(peer: Peer) -> None:
    root = await peer.add_image(await peer.add(noise(1 << 20)))
    await peer.push(root, insecure=True)
    assert await peer.digest_of("app", "v1") == root.digest


async def test_plain_http_is_refused_unless_allowed(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "certs.d" / peer.proxy.host).mkdir(parents=True)
    peer.options = peer.make_options(certs_dir=tmp_path / "certs.d")
    with pytest.raises(
        FailedPreconditionError, match="https://.*it does not use TLS.*registry.insecure=true"
    ):
        await push_something(peer)
    assert peer.pauses == []


async def test_the_environments_proxy_is_used(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://jo:s3cret@{peer.proxy.host}")
    monkeypatch.delenv("no_proxy", raising=False)
    peer.proxy.faults.append(Fault("CONNECT", "", status=502, times=100))
    root = await peer.add_image(await peer.add(noise(1 << 20)))
    progress = VertexProgress(peer.updates.append, "sha256:" + "0" * 64)
    options = peer.options
    name = "registry.invalid/app:v1"
    await push(peer.store, root, name, insecure=True, options=options, progress=progress)
    assert await peer.digest_of("app", "v1") == root.digest
    (ping,) = peer.proxy.of("GET", "/v2/$")
    assert ping.headers["Host"] == "registry.invalid"
    assert ping.headers["Proxy-Authorization"] == basic_authorization("jo", "s3cret")
