"""The HTTP endpoint for operators: metrics, liveness and readiness."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from exporter.errors import FailedPreconditionError
from exporter.rpc.address import TCPAddress, parse_host_port
from exporter.rpc.sockets import bind_tcp

if TYPE_CHECKING:
    from aiohttp import web
    from prometheus_client import CollectorRegistry

logger = logging.getLogger(__name__)

Readiness = Callable[[], Awaitable[str]]
"""Returns why the process is not ready; an empty text if it is."""

_FIELD = "metrics_address"


@asynccontextmanager
async def watched(text: str | None, readiness: Readiness) -> AsyncIterator[CollectorRegistry | None]:
    """Serve ``/metrics``, ``/healthz`` and ``/readyz`` while the block runs.

    Args:
        text: ``host:port``; None to serve nothing.
        readiness: Called for each ``/readyz``.

    Yields:
        The registry for metrics; None if nothing is served.

    Raises:
        InvalidArgumentError: the address is malformed.
        FailedPreconditionError: the address is not available, or the library for metrics is not installed.
    """
    if text is None:
        yield None
        return
    address = parse_host_port(text, field=_FIELD)
    try:
        from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector  # an extra
    except ModuleNotFoundError as error:
        raise FailedPreconditionError(
            f"metrics need the package {error.name}: pip install 'buildkit-exporter[metrics]'", field=_FIELD
        ) from error
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    async with _serving(address, _routes(registry, readiness)) as bound:
        logger.info("metrics on http://%s/metrics", bound.target)
        yield registry


def _routes(registry: CollectorRegistry, readiness: Readiness) -> list[web.RouteDef]:
    from aiohttp import web
    from prometheus_client.exposition import choose_encoder

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = await asyncio.to_thread(encode, registry)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        reason = await readiness()
        return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)

    return [web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)]


@asynccontextmanager
async def _serving(address: TCPAddress, routes: list[web.RouteDef]) -> AsyncIterator[TCPAddress]:
    from aiohttp import web

    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        try:
            listeners = await bind_tcp(address, field=_FIELD)
        except FailedPreconditionError as error:
            raise FailedPreconditionError(f"metrics: {error.message}", field=_FIELD) from error
        for listener in listeners:
            await web.SockSite(runner, listener, shutdown_timeout=0).start()
        yield TCPAddress(address.host, listeners[0].getsockname()[1])
    finally:
        await runner.cleanup()
