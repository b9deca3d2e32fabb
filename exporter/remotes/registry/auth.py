"""Answering a registry's ``WWW-Authenticate``: user and password, or a token.

Source of the rules: the distribution project's token authentication, and its OAuth2 form for identity tokens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from yarl import URL

from exporter.errors import PermissionDeniedError, UnavailableError
from exporter.remotes.http.answers import json_object
from exporter.remotes.registry.challenge import Challenge, parse_challenges
from exporter.remotes.registry.client import HTTPClient, Request, basic_authorization
from exporter.remotes.registry.credentials import Credentials, CredentialSource
from exporter.remotes.registry.retry import RequestError, Retries

_CLIENT_ID = "buildkit-exporter"
# A token is renewed somewhat before it ends: clocks differ, and requests take time.
_MARGIN_SECONDS = 10.0
# The specification's, for answers that do not tell.
_DEFAULT_LIFETIME = 60.0


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, and the seconds from now that it is good for."""

    value: str
    lifetime: float


@dataclass(frozen=True, slots=True)
class _KeptToken:
    value: str
    expires: float

    @classmethod
    def of(cls, token: Token) -> _KeptToken:
        return cls(token.value, time.monotonic() + max(token.lifetime - _MARGIN_SECONDS, 1.0))


class Authorizer:
    """Gives the ``Authorization`` for requests to one registry.

    Tokens are kept for each set of scopes until shortly before they end.

    Args:
        http: Reaches the token server.
        host: The registry, as in a reference (``docker.io``).
        credentials: Where to find what to show.
    """

    def __init__(self, http: HTTPClient, host: str, credentials: CredentialSource) -> None:
        self._http = http
        self._host = host
        self._source = credentials
        self._credentials: Credentials | None = None
        self._challenge: Challenge | None = None
        self._tokens: dict[tuple[str, ...], _KeptToken] = {}
        self._wanted: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._lock = asyncio.Lock()

    async def header(self, scopes: tuple[str, ...], retries: Retries) -> str | None:
        """The header for a request that needs `scopes`; None as long as the registry has not asked for one.

        Args:
            scopes: ``repository:NAME:ACTIONS``.
            retries: For requests to the token server.

        Raises:
            PermissionDeniedError: the token server refuses our credentials.
            UnavailableError: it cannot be reached, or does not do its work.
            ExporterError: the credentials cannot be read.
        """
        async with self._lock:
            if self._challenge is None:
                return None
            credentials = await self._get_credentials()
            if self._challenge.scheme == "basic":
                return _basic(credentials)
            if credentials.registry_token:
                return f"Bearer {credentials.registry_token}"
            token = self._tokens.get(scopes)
            if token is None or token.expires <= time.monotonic():
                fetched = await self._fetch(self._challenge, scopes, credentials, retries)
                token = self._tokens[scopes] = _KeptToken.of(fetched)
            return f"Bearer {token.value}"

    def challenged(self, headers: Iterable[str], scopes: tuple[str, ...], refused: str | None) -> None:
        """Take the challenge of a 401. It makes sense to try again if `header` then gives something new.

        Args:
            headers: The answer's ``WWW-Authenticate``; the best challenge that can be answered is taken.
            scopes: What the request needed.
            refused: The ``Authorization`` that it had. A token is forgotten.
        """
        offered = {challenge.scheme: challenge for challenge in reversed(parse_challenges(headers))}
        challenge = offered.get("bearer") or offered.get("basic")
        if challenge is None:
            return
        self._challenge = challenge
        self._wanted[scopes] = tuple(challenge.parameters.get("scope", "").split())
        token = self._tokens.get(scopes)
        if token is not None and refused == f"Bearer {token.value}":
            del self._tokens[scopes]

    async def explain(self, failure: RequestError) -> None:
        """Have a refusal say whose credentials were refused, where they are from, and what to do.

        Args:
            failure: Of a request to the registry, with the status 401 or 403.
        """
        assert failure.status is not None
        credentials = await self._get_credentials()
        advice = credentials.advice(self._host, failure.status)
        failure.error = PermissionDeniedError(f"{failure.error}; {advice}")

    async def _get_credentials(self) -> Credentials:
        if self._credentials is None:
            self._credentials = await self._source.get(self._host)
        return self._credentials

    async def _fetch(
        self, challenge: Challenge, scopes: tuple[str, ...], credentials: Credentials, retries: Retries
    ) -> Token:
        return await fetch_token(
            self._http,
            self._host,
            realm=challenge.parameters.get("realm", ""),
            service=challenge.parameters.get("service", ""),
            scopes=_merge(scopes, self._wanted.get(scopes, ())),
            credentials=credentials,
            retries=retries,
        )


async def fetch_token(
    http: HTTPClient,
    host: str,
    *,
    realm: str,
    service: str,
    scopes: Sequence[str],
    credentials: Credentials,
    retries: Retries,
) -> Token:
    """Get a token from a registry's token server.

    Args:
        http: Reaches the token server.
        host: The registry, for messages.
        realm: The token server's address, from the registry's challenge.
        service: What the challenge calls the registry; may be empty.
        scopes: What the token is to allow, ``repository:NAME:ACTIONS``.
        credentials: What to show.
        retries: How often to try.

    Raises:
        PermissionDeniedError: the token server refuses the credentials.
        UnavailableError: it cannot be reached, or does not do its work.
    """
    if not realm.startswith(("https://", "http://")):
        raise UnavailableError(f"{host} asks for a token but names no server for it (realm {realm!r})")
    request, authorization = _token_request(realm, service, scopes, credentials)
    while True:
        try:
            answer = await http.exchange(request, authorization)
            break
        except RequestError as failure:
            if failure.status in {400, 401, 403}:
                text = _refusal(host, realm, scopes, credentials, failure)
                raise PermissionDeniedError(text) from failure
            await retries.wait(failure)
    return _parse_token(answer.body, realm)


def _refusal(
    host: str, realm: str, scopes: Iterable[str], credentials: Credentials, failure: RequestError
) -> str:
    return (
        f"{host} gives {credentials.user} no access for {' '.join(scopes)}: {realm} answered "
        f"{failure.status}; {credentials.advice(host, HTTPStatus.UNAUTHORIZED)}"
    )


def _basic(credentials: Credentials) -> str | None:
    if not credentials.username:
        return None
    return basic_authorization(credentials.username, credentials.password)


def _merge(scopes: tuple[str, ...], wanted: tuple[str, ...]) -> list[str]:
    """Add what only the challenge asks for: a registry may know a repository by another name."""
    resources = {_resource(scope) for scope in scopes}
    return [*scopes, *(scope for scope in wanted if _resource(scope) not in resources)]


def _resource(scope: str) -> str:
    return scope.rpartition(":")[0]


def _token_request(
    realm: str, service: str, scopes: Sequence[str], credentials: Credentials
) -> tuple[Request, str | None]:
    what = f"getting a token for {' '.join(scopes)}"
    url = URL(realm)
    if credentials.identity_token:
        form = {
            "grant_type": "refresh_token",
            "service": service,
            "client_id": _CLIENT_ID,
            "scope": " ".join(scopes),
            "refresh_token": credentials.identity_token,
        }
        return Request(method="POST", url=url, what=what, body=form), None
    query = [("service", service)] if service else []
    query += [("scope", scope) for scope in scopes]
    if credentials.username:
        query.append(("account", credentials.username))
    return Request(method="GET", url=url.extend_query(query), what=what), _basic(credentials)


def _parse_token(body: bytes, realm: str) -> Token:
    fields = json_object(body) or {}
    value = fields.get("token") or fields.get("access_token")
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise UnavailableError(f"{realm} was asked for a token and answered without one")
    lifetime = fields.get("expires_in")
    if not isinstance(lifetime, int | float) or lifetime <= 0:
        lifetime = _DEFAULT_LIFETIME
    return Token(value, lifetime)
