"""Credentials for registries from Docker's configuration file and its credential helpers.

Reads ``$DOCKER_CONFIG/config.json`` (``~/.docker/config.json``): ``credHelpers``, ``credsStore`` and
``auths``, in docker's order. A helper is a program ``docker-credential-NAME`` that reads a server's address
from standard input.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from exporter.content.threads import run_in_thread
from exporter.errors import InvalidArgumentError, PermissionDeniedError, UnavailableError, os_error_text
from exporter.remotes.registry.tokens import TokenSource

DOCKER_HUB_SERVER = "https://index.docker.io/v1/"
"""The key for the credentials of docker.io."""

_HELPER_SECONDS = 30.0
_TOKEN_USER = "<token>"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials for a registry. `identity_token` (an OAuth2 refresh token) precedes user and password.

    `origin` says where they were found or, if there are none, which places were searched. It is for messages.
    `is_operators` tells that they belong to whoever runs this server, and not to whom messages go.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    origin: str = field(default="", compare=False)
    is_operators: bool = field(default=False, compare=False)

    @property
    def anonymous(self) -> bool:
        """Whether there are no credentials."""
        return not (self.username or self.identity_token or self.registry_token)

    @property
    def user(self) -> str:
        """The name of their owner, for messages."""
        if self.anonymous:
            return "an anonymous user"
        if self.is_operators:
            return "the operator"
        return self.username or "the saved token"

    def advice(self, host: str, status: int) -> str:
        """Advise the user when the credentials were rejected.

        Args:
            host: The registry.
            status: The HTTP status: 401 (authentication) or 403 (authorization).
        """
        if self.is_operators and not self.anonymous:
            problem = "may not do that" if status == HTTPStatus.FORBIDDEN else "are not accepted"
            return (
                f"the credentials that the operator of this server has for {host} {problem}: ask the operator"
            )
        login = f"`docker login {host}`"
        if self.anonymous:
            place = f" in {self.origin}" if self.origin else ""
            return f"there are no credentials for {host}{place}: log in with {login}"
        place = f" (from {self.origin})" if self.origin else ""
        if status == HTTPStatus.FORBIDDEN:
            return (
                f"{self.user}{place} may not do that: check the repository's name and your rights to it, or "
                f"log in as somebody else with {login}"
            )
        what = "the saved token" if not self.username else f"user {self.username} with the saved password"
        return f"{what}{place} is not accepted: log in with {login}"


class CredentialSource(Protocol):
    """Finds the credentials for a registry host, always those of the same user."""

    async def get(self, host: str) -> Credentials:
        """Return them; anonymous if there are none."""
        ...


@runtime_checkable
class DelegatingSource(CredentialSource, Protocol):
    """Credentials of somebody who may fetch tokens without showing the credentials."""

    async def token_source(self, host: str) -> TokenSource | None:
        """Who fetches the registry's tokens; None if nobody does."""
        ...


class StaticCredentials:
    """Fixed credentials by host; anonymous for other hosts."""

    def __init__(self, by_host: Mapping[str, Credentials] | None = None) -> None:
        self._by_host = dict(by_host or {})

    async def get(self, host: str) -> Credentials:
        """See `CredentialSource.get`."""
        return self._by_host.get(host, Credentials())


class DockerCredentials:
    """The credentials that `docker login` saved for the user who runs this process.

    The file is read each time, so that a long-running server sees new logins.

    Args:
        path: The configuration file; docker's default if None. A missing file means no credentials.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    @property
    def path(self) -> Path:
        """The path of the configuration file."""
        if self._path is not None:
            return self._path
        directory = os.environ.get("DOCKER_CONFIG")
        return (Path(directory) if directory else Path.home() / ".docker") / "config.json"

    async def get(self, host: str) -> Credentials:
        """Find the credentials for `host` (``docker.io`` for Docker Hub).

        Raises:
            InvalidArgumentError: the file is not a docker configuration.
            UnavailableError: a credential helper failed.
        """
        config = await run_in_thread(self._load)
        server = DOCKER_HUB_SERVER if host == "docker.io" else host
        helpers = _mapping(config, "credHelpers")
        # An empty name disables the store.
        helper = next((helpers[key] for key in (server, host) if key in helpers), config.get("credsStore"))
        if helper:
            found = await _ask_helper(str(helper), server)
            return replace(found, origin=f"docker-credential-{helper}, which {self.path} names")
        auths = _mapping(config, "auths")
        by_host = (key for key in auths if _host_of(key) == host)
        key = server if server in auths else next(by_host, None)
        entry = auths.get(key) if key is not None else None
        found = _from_entry(entry, f"{self.path}: auths[{key}]") if isinstance(entry, dict) else Credentials()
        return replace(found, origin=str(self.path))

    def _load(self) -> dict[str, Any]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except OSError as error:
            kind = PermissionDeniedError if isinstance(error, PermissionError) else InvalidArgumentError
            raise kind(f"cannot read docker's configuration: {os_error_text(error)}") from error
        try:
            config = json.loads(text)
        except ValueError as error:
            raise InvalidArgumentError(f"{self.path} is not JSON: {error}") from error
        if not isinstance(config, dict):
            raise InvalidArgumentError(f"{self.path} is not a docker configuration: not a JSON object")
        return config


def _mapping(config: dict[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _host_of(key: str) -> str:
    """The host of a key. Old docker versions used whole URLs as keys."""
    host = key.removeprefix("https://").removeprefix("http://").split("/", 1)[0]
    return "docker.io" if host in {"index.docker.io", "registry-1.docker.io"} else host


def _from_entry(entry: dict[str, Any], where: str) -> Credentials:
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            decoded = base64.b64decode(str(entry["auth"]), validate=True).decode("utf-8")
            username, _, password = decoded.partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise InvalidArgumentError(
                f"{where}: auth is not base64 of user:password; `docker login` writes it"
            ) from error
        password = password.rstrip("\0")
    return Credentials(
        username=username,
        password=password,
        identity_token=str(entry.get("identitytoken") or ""),
        registry_token=str(entry.get("registrytoken") or ""),
    )


async def _ask_helper(name: str, server: str) -> Credentials:
    program = f"docker-credential-{name}"
    if "/" in name:
        raise InvalidArgumentError(f"credential helper {name!r}: must be a name, not a path")
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise UnavailableError(
            f"cannot run the credential helper that docker's configuration names: {os_error_text(error)}"
        ) from error
    try:
        async with asyncio.timeout(_HELPER_SECONDS):
            stdout, stderr = await process.communicate(server.encode())
    except TimeoutError as error:
        raise UnavailableError(
            f"credential helper {program} did not answer in {_HELPER_SECONDS:.0f} s"
        ) from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        said = (stdout + stderr).decode("utf-8", "replace").strip()
        # In the protocol, this means that there are no credentials for the server.
        if "credentials not found" in said:
            return Credentials()
        raise UnavailableError(f"credential helper {program} failed for {server}: {said}")
    try:
        answer = json.loads(stdout)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise UnavailableError(
            f"credential helper {program} gave no Username and Secret for {server}"
        ) from error
    if username == _TOKEN_USER:
        return Credentials(identity_token=secret)
    return Credentials(username=username, password=secret)
