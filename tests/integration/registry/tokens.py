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
    """Signs tokens that docker-registry accepts, for a user "jo" whose password is "s3cret".

    Attributes:
        url: Where it is.
        asked: The scopes of each request.
        agents: Which program made each request.
        lifetime: Seconds that the tokens are good for.
    """

    def __init__(self, directory: Path) -> None:
        self._key = directory / "tokens.key"
        self._certificate = directory / "tokens.crt"
        self.url = ""
        self.asked: list[tuple[str, ...]] = []
        self.agents: list[str] = []
        self.lifetime = 300.0

    @property
    def settings(self) -> dict[str, object]:
        """What docker-registry has to be told."""
        bundle = str(self._certificate)
        return {"token": {"realm": self.url, "service": SERVICE, "issuer": "tests", "rootcertbundle": bundle}}

    async def handle(self, request: web.BaseRequest) -> web.Response:
        scopes = tuple(request.query.getall("scope", []))
        self.asked.append(scopes)
        self.agents.append(request.headers.get("User-Agent", ""))
        if request.headers.get("Authorization") != f"Basic {base64.b64encode(b'jo:s3cret').decode()}":
            return web.json_response({"details": "incorrect username or password"}, status=401)
        token = await self._sign(scopes)
        return web.json_response({"token": token, "expires_in": 300})

    async def _sign(self, scopes: tuple[str, ...]) -> str:
        pem = self._certificate.read_text().split("-----")[2]
        header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(pem.split())]}
        access = [
            {"type": kind, "name": name, "actions": actions.split(",")}
            for kind, name, actions in (scope.split(":") for scope in scopes)
        ]
        claims = {
            "iss": "tests",
            "sub": "jo",
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
