"""Single HTTP requests, without retries. Failures tell whether a retry may help.

We use aiohttp, which streams bodies from asynchronous iterators, with backpressure. The registry libraries on
PyPI (oras, dxf) are synchronous and accept blobs only as files.
"""

from __future__ import annotations

import base64
import io
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from exporter.errors import ResourceExhaustedError
from exporter.remotes.http.answers import read_body
from exporter.remotes.registry.endpoint import proxy_for
from exporter.remotes.registry.failure import CONNECTION_ERRORS, connection_error, status_error
from exporter.remotes.registry.retry import RequestError

_CONNECT_SECONDS = 30.0
_ERROR_LIMIT = 64 << 10
_OK = frozenset({200})


def basic_authorization(user: str, password: str) -> str:
    """The header value for a user and a password (RFC 7617)."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request.

    Attributes:
        method: The HTTP method.
        url: The URL.
        what: Its purpose, with which messages begin: ``pushing sha256:… to HOST/PATH``.
        expect: Status codes that are not failures.
        scopes: The scopes that a token must have (``repository:NAME:pull,push``).
        headers: Additional headers.
        body: Bytes, a form, or a stream, which can be sent only once.
        follow: Whether to follow redirects, if the body can be sent again.
        limit: Maximum size of a response that is read as a whole.
    """

    method: str
    url: URL
    what: str
    expect: frozenset[int] = _OK
    scopes: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Mapping[str, str] | AsyncIterable[bytes] | None = field(default=None, repr=False)
    follow: bool = True
    limit: int = 1 << 20

    @property
    def is_repeatable(self) -> bool:
        """Whether the body can be sent again."""
        return not isinstance(self.body, AsyncIterable)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that was read as a whole. `url` is the final URL, after redirects."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: URL


class HTTPClient:
    """Connections to a registry and to its token server. Use as an asynchronous context manager.

    Args:
        tls: The TLS configuration.
        connections: Maximum number of connections.
        stall_seconds: How long a response may stall.
    """

    def __init__(self, tls: ssl.SSLContext, *, connections: int, stall_seconds: float) -> None:
        self._tls = tls
        self._connections = connections
        self._stall_seconds = stall_seconds
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=self._connections),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_SECONDS, sock_read=self._stall_seconds
            ),
            # No compressed responses, which would change the digests of blobs.
            headers={"User-Agent": "buildkit-exporter", "Accept-Encoding": "identity"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @asynccontextmanager
    async def stream(
        self, request: Request, authorization: str | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request, and yield the response with its body unread.

        The block should only read the body: any connection error in it is attributed to the registry.

        Raises:
            RequestError: there is no response, or its status is unexpected.
        """
        headers = CIMultiDict(request.headers)
        if authorization is not None:
            headers["Authorization"] = authorization
        proxy = proxy_for(request.url)
        proxy_headers = _proxy_headers(proxy)
        if request.url.scheme == "http":  # without TLS there is no CONNECT request to carry them
            headers.update(proxy_headers)
        try:
            async with self._session.request(
                request.method,
                request.url,
                headers=headers,
                data=_data(request),
                proxy=proxy.with_user(None) if proxy else None,
                proxy_headers=proxy_headers,
                # Following a redirect may require sending the body again.
                allow_redirects=request.follow and request.is_repeatable,
            ) as response:
                if response.status not in request.expect:
                    body = await read_body(response, _ERROR_LIMIT)
                    raise status_error(response, body, request.what)
                yield response
        except CONNECTION_ERRORS as error:
            raise connection_error(error, request.url, request.what) from error

    async def exchange(self, request: Request, authorization: str | None = None) -> Answer:
        """Send a request and read the response.

        Raises:
            RequestError: there is no response, or its status is unexpected.
        """
        async with self.stream(request, authorization) as response:
            return await read_answer(response, request)


async def read_answer(response: aiohttp.ClientResponse, request: Request) -> Answer:
    """Read the rest of a response.

    Raises:
        RequestError: it is longer than the request's limit.
    """
    body = await read_body(response, request.limit + 1)
    if len(body) > request.limit:
        message = f"{request.what}: the response has more than {request.limit} bytes"
        raise RequestError(ResourceExhaustedError(message))
    return Answer(response.status, response.headers, body, response.url)


def _data(request: Request) -> Any:
    body = request.body
    # aiohttp sends bytes in a single write, but a file in chunks.
    return io.BytesIO(body) if isinstance(body, bytes) and body else body


def _proxy_headers(proxy: URL | None) -> dict[str, str]:
    if proxy is None or proxy.user is None:
        return {}
    return {"Proxy-Authorization": basic_authorization(proxy.user, proxy.password or "")}
