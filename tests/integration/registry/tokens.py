"""A token server for a real registry."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from tests.integration.certificates import make_certificate
from tests.integration.commands import run
from tests.peers import require

SERVICE = "registry.test"


class TokenServer:
    """Signs tokens that docker-registry accepts, for users "jo" and "ops" whose password is "s3cret".

    Without a login there is a token that allows nothing.

    Attributes:
        url: Where it is.
        asked: The scopes of each request.
        users: Whose each request was; empty for nobody's.
        knows_form: Whether it can be asked in the OAuth2 way.
        agents: Which program made each request.
        lifetime: Seconds that the tokens are good for.
    """

    def __init__(self, directory: Path) -> None:
        self._key = directory / "tokens.key"
        self._certificate = directory / "tokens.crt"
        self.url = ""
        self.asked: list[tuple[str, ...]] = []
        self.users: list[str] = []
        self.knows_form = False
        self.agents: list[str] = []
        self.lifetime = 300.0

    @property
    def settings(self) -> dict[str, object]:
        """The configuration for docker-registry."""
        bundle = str(self._certificate)
        return {"token": {"realm": self.url, "service": SERVICE, "issuer": "tests", "rootcertbundle": bundle}}

    async def handle(self, request: web.BaseRequest) -> web.Response:
        self.agents.append(request.headers.get("User-Agent", ""))
        if request.method == "POST":
            if not self.knows_form:
                return web.Response(status=405)
            form = await request.post()
            assert form["grant_type"] == "password"
            scopes = tuple(str(form["scope"]).split())
            login = ":".join(str(form[key]) for key in ("username", "password"))
            key = "access_token"
        else:
            scopes = tuple(request.query.getall("scope", []))
            login = base64.b64decode(request.headers.get("Authorization", "").removeprefix("Basic ")).decode()
            key = "token"
        user = login.partition(":")[0]
        self.asked.append(scopes)
        self.users.append(user)
        if login not in {"", "jo:s3cret", "ops:s3cret"}:
            return web.json_response({"details": "incorrect username or password"}, status=401)
        token = await self._sign(scopes if login else (), user)
        return web.json_response({key: token, "expires_in": 300})

    async def _sign(self, scopes: tuple[str, ...], user: str) -> str:
        pem = self._certificate.read_text().split("-----")[2]
        header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(pem.split())]}
        access = [
            {"type": kind, "name": name, "actions": actions.split(",")}
            for kind, name, actions in (scope.split(":") for scope in scopes)
        ]
        claims = {
            "iss": "tests",
            "sub": user,
            "aud": SERVICE,
            "exp": int(time.time() + self.lifetime),
            "nbf": int(time.time()) - 1000,
            "iat": int(time.time()) - 1000,
            "jti": str(len(self.asked)),
            "access": access,
        }
        signed = f"{_encode(json.dumps(header).encode())}.{_encode(json.dumps(claims).encode())}"
        message = self._key.with_name("message")
        message.write_text(signed)
        openssl = require("openssl", "openssl")
        signature = await run(openssl, "dgst", "-sha256", "-sign", str(self._key), str(message))
        return f"{signed}.{_encode(signature)}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@asynccontextmanager
async def token_server(directory: Path) -> AsyncIterator[TokenServer]:
    """Run a token server that keeps its key in a directory."""
    await make_certificate(directory, "tokens")
    server = TokenServer(directory)
    runner = web.ServerRunner(web.Server(server.handle))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/token"
        yield server
    finally:
        await runner.cleanup()
