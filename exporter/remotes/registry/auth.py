"""Responding to a registry's ``WWW-Authenticate`` with basic authentication or a token.

Source of the rules: the distribution project's token authentication and its OAuth2 form, and containerd's
fallback for token servers that support only one of the two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from http import HTTPStatus

from yarl import URL

from exporter.errors import FailedPreconditionError, PermissionDeniedError, UnavailableError
from exporter.remotes.http.answers import json_object
from exporter.remotes.registry.challenge import Challenge, parse_challenges
from exporter.remotes.registry.client import HTTPClient, Request, basic_authorization
from exporter.remotes.registry.credentials import Credentials, CredentialSource, DelegatingSource
from exporter.remotes.registry.endpoint import is_loopback, server_url
from exporter.remotes.registry.retry import RequestError, Retries
from exporter.remotes.registry.tokens import Token, TokenCache, TokenSource, is_token

_CLIENT_ID = "buildkit-exporter"
# The specification's default.
_DEFAULT_LIFETIME = 60.0
_LONGEST_LIFETIME = 86400.0
_LONGEST_SHOWN = 200
_REFUSALS = frozenset({400, 401, 403})
# With these, servers say that they do not support OAuth2, such as those of Google (404), Azure (400) and
# JFrog (401). POST requests do not follow redirects, which would pass the password on.
_NO_OAUTH2 = frozenset({301, 302, 303, 307, 308, 400, 401, 404, 405})


class Authorizer:
    """Provides the ``Authorization`` header for requests to one registry.

    Args:
        http: The client for the token server.
        host: The registry, as in a reference (``docker.io``).
        credentials: The source of credentials.
        cache: Caches tokens for this and later authorizers of the same user.
        is_unchecked: Whether the registry's certificate is not verified, so that it may be an impostor.
    """

    def __init__(
        self,
        http: HTTPClient,
        host: str,
        credentials: CredentialSource,
        cache: TokenCache | None = None,
        *,
        is_unchecked: bool = False,
    ) -> None:
        self._http = http
        self._host = host
        self._source = credentials
        self._cache = cache or TokenCache()
        self._is_unchecked = is_unchecked
        self._credentials: Credentials | None = None
        self._fetcher: TokenSource | None = None
        self._asked_for_fetcher = False
        self._challenge: Challenge | None = None
        self._is_plain = False
        self._wanted: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._lock = asyncio.Lock()

    async def header(self, scopes: tuple[str, ...], retries: Retries) -> str | None:
        """The header for a request that needs `scopes`; None until the registry has sent a challenge.

        Args:
            scopes: ``repository:NAME:ACTIONS``.
            retries: The retry policy for requests to the token server.

        Raises:
            PermissionDeniedError: the token server rejects our credentials.
            FailedPreconditionError: the credentials cannot be sent to it safely.
            UnavailableError: the token server is not reachable or fails.
            ExporterError: the credentials cannot be read.
        """
        async with self._lock:
            if self._challenge is None:
                return None
            if self._challenge.scheme == "basic":
                return _basic(await self._get_credentials())
            kept = self._cache.get(self._host, scopes)
            if kept is not None:
                return f"Bearer {kept}"
            fetcher = await self._get_fetcher()
            if fetcher is None and (registry_token := (await self._get_credentials()).registry_token):
                return f"Bearer {registry_token}"
            token = await self._fetch(self._challenge, scopes, fetcher, retries)
            self._cache.keep(self._host, scopes, token)
            return f"Bearer {token.value}"

    def challenged(
        self, headers: Iterable[str], scopes: tuple[str, ...], refused: str | None, *, is_plain: bool = False
    ) -> None:
        """Process the challenge of a 401. Retry the request if `header` then returns a different value.

        Args:
            headers: The response's ``WWW-Authenticate`` headers; the best supported challenge is used.
            scopes: The scopes that the request needed.
            refused: The request's ``Authorization``. If it was a token, it is dropped from the cache.
            is_plain: Whether the registry speaks plain HTTP.
        """
        offered = {challenge.scheme: challenge for challenge in reversed(parse_challenges(headers))}
        challenge = offered.get("bearer") or offered.get("basic")
        if challenge is None:
            return
        self._challenge = challenge
        self._is_plain = is_plain
        self._wanted[scopes] = tuple(challenge.parameters.get("scope", "").split())
        if refused is not None:
            self._cache.forget(self._host, scopes, refused.removeprefix("Bearer "))

    async def explain(self, failure: RequestError) -> None:
        """Add to a failure whose credentials were rejected, where they come from, and what to do.

        Args:
            failure: The failure of a request to the registry with status 401 or 403.
        """
        assert failure.status is not None
        if self._fetcher is not None:
            advice = self._fetcher.advice(failure.status)
        else:
            advice = (await self._get_credentials()).advice(self._host, failure.status)
        failure.error = PermissionDeniedError(f"{failure.error}; {advice}")

    async def _get_credentials(self) -> Credentials:
        if self._credentials is None:
            found = await self._source.get(self._host)
            if found.is_operators and self._is_unchecked:
                raise FailedPreconditionError(
                    f"the operator's credentials for {self._host} are not shown to a registry whose "
                    "certificate is not checked: leave registry.insecure out, and have the operator trust it"
                )
            self._credentials = found
        return self._credentials

    async def _get_fetcher(self) -> TokenSource | None:
        if not self._asked_for_fetcher:
            if isinstance(self._source, DelegatingSource):
                self._fetcher = await self._source.token_source(self._host)
            self._asked_for_fetcher = True
        return self._fetcher

    async def _fetch(
        self, challenge: Challenge, scopes: tuple[str, ...], fetcher: TokenSource | None, retries: Retries
    ) -> Token:
        realm, service = challenge.parameters.get("realm", ""), challenge.parameters.get("service", "")
        wanted = _merge(scopes, self._wanted.get(scopes, ()))
        if fetcher is not None:
            server = token_server(self._host, realm)
            # We do not know whether the fetcher will send credentials.
            check_safe(self._host, server, is_plain=self._is_plain)
            return await fetcher.fetch(realm, service, wanted)
        return await fetch_token(
            self._http,
            self._host,
            realm=realm,
            service=service,
            scopes=wanted,
            credentials=await self._get_credentials(),
            retries=retries,
            is_plain=self._is_plain,
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
    is_plain: bool = True,
) -> Token:
    """Get a token from a registry's token server.

    Credentials are first sent with OAuth2's POST. If the server does not support that, the request is
    repeated with GET, like containerd. Without credentials, GET is used.

    Args:
        http: The client for the token server.
        host: The registry, for messages.
        realm: The token server's URL, from the registry's challenge.
        service: The registry's name in the challenge; may be empty.
        scopes: The requested scopes, ``repository:NAME:ACTIONS``.
        credentials: The credentials.
        retries: The retry policy.
        is_plain: Whether the registry speaks plain HTTP, or may do so.

    Raises:
        PermissionDeniedError: the token server rejects the credentials.
        FailedPreconditionError: the credentials cannot be sent to it safely.
        UnavailableError: the token server is not reachable or fails.
    """
    url = token_server(host, realm)
    what = f"getting a token for {' '.join(scopes)}"
    if not (credentials.username or credentials.identity_token):
        request = _get_request(url, service, scopes, credentials, what)
        return await _ask(http, host, request, None, scopes, credentials, retries)
    check_safe(host, url, is_plain=is_plain)
    try:
        form = _form(service, scopes, credentials)
        request = Request(method="POST", url=url, what=what, body=form, follow=False)
        return await _ask(http, host, request, None, scopes, credentials, retries, may_give_up=True)
    except _NoOAuth2Error:
        request = _get_request(url, service, scopes, credentials, what)
        return await _ask(http, host, request, _shown(credentials), scopes, credentials, retries)


class _NoOAuth2Error(Exception):
    """The token server may only support GET."""


async def _ask(
    http: HTTPClient,
    host: str,
    request: Request,
    authorization: str | None,
    scopes: Sequence[str],
    credentials: Credentials,
    retries: Retries,
    *,
    may_give_up: bool = False,
) -> Token:
    while True:
        try:
            answer = await http.exchange(request, authorization)
            return _parse_token(answer.body, request.url)
        except RequestError as failure:
            if may_give_up and failure.status in _NO_OAUTH2:
                raise _NoOAuth2Error from None
            if failure.status in _REFUSALS:
                text = _refusal(host, request.url, scopes, credentials, failure)
                raise PermissionDeniedError(text) from failure
            await retries.wait(failure)


def token_server(host: str, realm: str) -> URL:
    """Parse the URL of a registry's token server.

    Args:
        host: The registry, for messages.
        realm: The realm in its challenge.

    Raises:
        UnavailableError: it is not a valid URL.
    """
    url = server_url(realm)
    if url is None:
        raise UnavailableError(
            f"{host} asks for a token but names no server for it (realm {realm[:_LONGEST_SHOWN]!r})"
        )
    return url


def check_safe(host: str, server: URL, *, is_plain: bool) -> None:
    """Make sure that credentials are not sent to a token server in plain text.

    Args:
        host: The registry.
        server: Its token server.
        is_plain: Whether the registry speaks plain HTTP or may do so; then a token server on the same host
            may, too.

    Raises:
        FailedPreconditionError: the token server speaks plain HTTP on a different host.
    """
    is_own = is_plain and server.host == (URL(f"//{host}").host or host)
    if server.scheme == "https" or is_loopback(server.authority) or is_own:
        return
    raise FailedPreconditionError(
        f"{host} sends its users to the token server {server.origin()}, which speaks plain HTTP on another "
        "host: credentials are not sent there; have the registry's operator give the server TLS"
    )


def _refusal(
    host: str, url: URL, scopes: Iterable[str], credentials: Credentials, failure: RequestError
) -> str:
    return (
        f"{host} gives {credentials.user} no access for {' '.join(scopes)}: {url.origin()} answered "
        f"{failure.status}; {credentials.advice(host, HTTPStatus.UNAUTHORIZED)}"
    )


def _basic(credentials: Credentials) -> str | None:
    if not credentials.username:
        return None
    return basic_authorization(credentials.username, credentials.password)


def _shown(credentials: Credentials) -> str:
    """The password for GET: an identity token replaces it, as in containerd."""
    if credentials.identity_token:
        return basic_authorization("", credentials.identity_token)
    return basic_authorization(credentials.username, credentials.password)


def _merge(scopes: tuple[str, ...], wanted: tuple[str, ...]) -> list[str]:
    """Add scopes that only the challenge has: a registry may use a different name for a repository."""
    resources = {_resource(scope) for scope in scopes}
    return [*scopes, *(scope for scope in wanted if _resource(scope) not in resources)]


def _resource(scope: str) -> str:
    return scope.rpartition(":")[0]


def _form(service: str, scopes: Sequence[str], credentials: Credentials) -> dict[str, str]:
    form = {"service": service, "client_id": _CLIENT_ID, "scope": " ".join(scopes)}
    if credentials.identity_token:
        return {"grant_type": "refresh_token", "refresh_token": credentials.identity_token, **form}
    user = {"username": credentials.username, "password": credentials.password}
    return {"grant_type": "password", **user, **form}


def _get_request(
    url: URL, service: str, scopes: Sequence[str], credentials: Credentials, what: str
) -> Request:
    query = [("service", service)] if service else []
    query += [("scope", scope) for scope in scopes]
    if credentials.username and not credentials.identity_token:
        query.append(("account", credentials.username))
    return Request(method="GET", url=url.extend_query(query), what=what)


def _parse_token(body: bytes, url: URL) -> Token:
    fields = json_object(body) or {}
    value = fields.get("token") or fields.get("access_token")
    if not isinstance(value, str) or not is_token(value):
        raise UnavailableError(f"{url.origin()} was asked for a token and answered without one")
    lifetime = fields.get("expires_in")
    if not isinstance(lifetime, int | float) or not lifetime > 0:
        lifetime = _DEFAULT_LIFETIME
    return Token(value, min(lifetime, _LONGEST_LIFETIME))
