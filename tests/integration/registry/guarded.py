"""Registries that require a login, and an operator who has one."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.registry.pushing import Peer
from tests.integration.registry.tokens import TokenServer, token_server
from tests.integration.registry_peer import FaultyProxy, docker_registry

PASSWORD = "s3cret"
# Of that password.
_HASH = "$2b$05$uc2/CEa8LQLCV0fh5h7P9.BuXcCZbNGX94eX.U1HOO3Mezqdt8Tzm"
SECRETS = [PASSWORD, *(base64.b64encode(f"{user}:{PASSWORD}".encode()).decode() for user in ("jo", "ops"))]


@dataclass
class Guarded:
    """A registry for people with a login.

    Attributes:
        peer: It, with what comes to it.
        tokens: Its token server; None for users and passwords.
        directory: Where it keeps what it has.
    """

    peer: Peer
    tokens: TokenServer | None
    directory: Path

    @property
    def host(self) -> str:
        return self.peer.proxy.host

    def users(self) -> set[str]:
        """The users who have logged in since the last call."""
        if self.tokens is not None:
            found = set(self.tokens.users)
            self.tokens.users.clear()
        else:
            headers = [seen.headers.get("Authorization", "") for seen in self.peer.proxy.seen]
            logins = [base64.b64decode(header.removeprefix("Basic ")).decode() for header in headers]
            found = {login.partition(":")[0] for login in logins}
            self.peer.proxy.seen.clear()
        return found - {""}

    def has(self, repository: str) -> bool:
        """Whether an image was pushed there."""
        repositories = self.directory / "data" / "docker" / "registry" / "v2" / "repositories"
        return (repositories / repository / "_manifests" / "tags").is_dir()


@asynccontextmanager
async def guarded(directory: Path, kind: str) -> AsyncIterator[Guarded]:
    await asyncio.to_thread(directory.mkdir)
    async with AsyncExitStack() as stack:
        tokens = None
        if kind == "tokens":
            tokens = await stack.enter_async_context(token_server(directory))
            auth = tokens.settings
        else:
            (directory / "htpasswd").write_text(f"jo:{_HASH}\nops:{_HASH}\n")
            auth = {"htpasswd": {"realm": "tests", "path": str(directory / "htpasswd")}}
        upstream = await stack.enter_async_context(docker_registry(directory, auth=auth))
        front = await stack.enter_async_context(FaultyProxy(upstream).run())
        yield Guarded(Peer(front, upstream), tokens, directory)


def log_in(home: Path, *registries: Guarded, user: str = "ops") -> Path:
    """Create a login; returns the file."""
    login = {"auth": base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()}
    config = home / ".docker" / "config.json"
    config.parent.mkdir(exist_ok=True)
    config.write_text(json.dumps({"auths": {registry.host: login for registry in registries}}))
    return config


def nothing_secret_in(log: str) -> None:
    for secret in (*SECRETS, "eyJ0eXAi"):  # how the tokens begin
        assert secret not in log
