"""Requests to a registry, with authorization and retries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self

import aiohttp
from yarl import URL

from exporter.content.threads import run_in_thread
from exporter.remotes.registry.auth import Authorizer
from exporter.remotes.registry.client import Answer, HTTPClient, Request, read_answer
from exporter.remotes.registry.endpoint import endpoints, is_loopback, tls_context
from exporter.remotes.registry.failure import is_tls_error
from exporter.remotes.registry.options import RegistryOptions
from exporter.remotes.registry.retry import OnRetry, RequestError, Retries

_TOKEN_CONNECTIONS = 1


class Transport:
    """Requests to a registry. Entering this asynchronous context manager finds out how to reach it.

    Args:
        host: The registry as in a reference (``docker.io``, ``localhost:5000``).
        insecure: ``registry.insecure=true``: accept any certificate, and plain HTTP if there is no TLS.
        options: See `RegistryOptions`.
        on_retry: See `OnRetry`.

    Raises:
        ExporterError: the registry cannot be reached.
    """

    def __init__(
        self, host: str, *, insecure: bool, options: RegistryOptions, on_retry: OnRetry | None = None
    ) -> None:
        self.host = host
        self.options = options
        self._insecure = insecure or options.host(host).insecure
        self._on_retry = on_retry
        self._base = URL()
        self._stack = AsyncExitStack()
        self._http: HTTPClient
        self._authorizer: Authorizer

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            options = self.options
            tls = await run_in_thread(tls_context, self.host, options, insecure=self._insecure)
            connections = options.concurrency + _TOKEN_CONNECTIONS
            client = HTTPClient(tls, connections=connections, stall_seconds=options.stall_seconds)
            self._http = await stack.enter_async_context(client)
            self._authorizer = Authorizer(
                self._http,
                self.host,
                options.credentials,
                options.tokens,
                is_unchecked=self._insecure and not is_loopback(self.host),
            )
            await self._connect()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def url(self, path: str) -> URL:
        """The URL of an API path, such as ``/v2/``."""
        return URL(f"{self._base}{path}", encoded=True)

    def retries(self) -> Retries:
        """The attempts of a new operation."""
        return Retries(self.options.retry, self._on_retry)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request once, or twice if authorization was missing; see `HTTPClient.stream`.

        Raises:
            RequestError: there is no response, or its status is unexpected.
            ExporterError: no token can be obtained.
        """
        authorization = await self._authorization(request)
        try:
            async with self._http.stream(request, authorization) as response:
                yield response
                return
        except RequestError as failure:
            if failure.status != 401 or not self._is_ours(request.url):
                await self._explain(failure, request)
                raise
            self._challenged(failure, request.scopes, authorization)
            renewed = await self._authorization(request)
            if renewed == authorization:
                await self._explain(failure, request)
                raise
            if not request.is_repeatable:
                failure.may_pass = True
                raise
        try:
            async with self._http.stream(request, renewed) as response:
                yield response
        except RequestError as failure:
            await self._explain(failure, request)
            raise

    async def exchange(self, request: Request) -> Answer:
        """Send a request once, as `stream` does, and read the response.

        Raises:
            RequestError: there is no response, or its status is unexpected.
            ExporterError: no token can be obtained.
        """
        async with self.stream(request) as response:
            return await read_answer(response, request)

    async def call(self, request: Request) -> Answer:
        """Send a request with retries, and read the response.

        Raises:
            PermissionDeniedError: 401 or 403.
            NotFoundError: 404.
            ResourceExhaustedError: 413 or 429.
            UnavailableError: no connection, or a failure of the registry.
            FailedPreconditionError: any other status, or a TLS failure.
        """
        retries = self.retries()
        while True:
            try:
                return await self.exchange(request)
            except RequestError as failure:
                await retries.wait(failure)

    def _challenged(self, failure: RequestError, scopes: tuple[str, ...], refused: str | None) -> None:
        is_plain = self._base.scheme == "http"
        self._authorizer.challenged(failure.challenges, scopes, refused, is_plain=is_plain)

    async def _authorization(self, request: Request) -> str | None:
        if not self._is_ours(request.url):
            return None
        return await self._authorizer.header(request.scopes, self.retries())

    async def _explain(self, failure: RequestError, request: Request) -> None:
        if failure.status in {401, 403} and self._is_ours(request.url):
            await self._authorizer.explain(failure)

    def _is_ours(self, url: URL) -> bool:
        """Whether the URL is the registry's own. Uploads may lead to other hosts, which get no tokens."""
        base = self._base
        return (url.scheme, url.host, url.port) == (base.scheme, base.host, base.port)

    async def _connect(self) -> None:
        """Find out which address works, and whether authorization is required (``GET /v2/``)."""
        addresses = endpoints(self.host, self.options, insecure=self._insecure)
        retries = self.retries()
        while True:
            self._base = addresses[0]
            request = Request(method="GET", url=self.url("/v2/"), what=f"connecting to {self.host}")
            try:
                await self._http.exchange(request)
            except RequestError as failure:
                if failure.status is None:
                    if len(addresses) > 1 and _may_be_plain(failure, self._base):
                        del addresses[0]
                    else:
                        await retries.wait(failure)
                    continue
                if failure.status == 401:
                    self._challenged(failure, (), None)
            return


def _may_be_plain(failure: RequestError, url: URL) -> bool:
    """Whether to try plain HTTP, as in BuildKit: TLS failed, or nothing responds on the default port."""
    cause = failure.__cause__
    if cause is None:
        return False
    is_cut = isinstance(
        getattr(cause, "os_error", cause), ConnectionResetError | aiohttp.ServerDisconnectedError
    )
    return is_tls_error(cause) or is_cut or url.explicit_port is None
