"""The server's lifecycle: startup, readiness and graceful shutdown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from exporter.engine.finalize import FinalizeStore
from exporter.engine.jobs import Jobs
from exporter.engine.limits import Admission
from exporter.engine.workplace import open_workplace, problem_of_store
from exporter.exporters.registry import Registry, default_registry
from exporter.pb.buildkit.exporter.v1 import exporter_pb2, exporter_pb2_grpc
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.rpc.activation import listen_addresses
from exporter.rpc.address import Address
from exporter.rpc.allowed import AddressPattern
from exporter.rpc.limits import raise_file_limit
from exporter.rpc.listen import accepting
from exporter.rpc.session.manager import SessionManager, SessionService
from exporter.rpc.session.services import SessionServices
from exporter.server.calls import CallServer
from exporter.server.config import ServerConfig
from exporter.server.metrics import Metrics
from exporter.server.notify import Supervisor
from exporter.server.peers import Peers
from exporter.server.reflection import add_reflection
from exporter.server.service import ExporterService
from exporter.server.signals import queued_signals
from exporter.server.watching import watched

logger = logging.getLogger(__name__)

CLEANUP_SECONDS = 10.0
"""At shutdown: the timeout for cancelled exports to clean up."""

HANGUP_SECONDS = 1.0
"""At shutdown: the timeout for responses to reach their callers."""

FINALIZE_SECONDS = 2.0
"""At shutdown: how long to wait for a caller to finalize its export. A daemon does so immediately."""

SERVICES = (
    exporter_pb2.DESCRIPTOR.services_by_name["ExporterService"].full_name,
    control_pb2.DESCRIPTOR.services_by_name["Control"].full_name,
)

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

OnReady = Callable[[tuple[Address, ...]], None]


async def serve(
    config: ServerConfig, *, registry: Registry | None = None, on_ready: OnReady | None = None
) -> None:
    """Run a server until SIGTERM or SIGINT.

    After the first signal, it rejects new exports and waits up to `ServerConfig.shutdown_grace` seconds for
    running ones. A second signal or the timeout cancels them.

    Args:
        config: The configuration.
        registry: The exporter types; the installed ones if None.
        on_ready: Called with the bound addresses, including ports, once connections are accepted.

    Raises:
        InvalidArgumentError: a value of the configuration is invalid; `field` names it.
        FailedPreconditionError: it cannot listen at an address, or `WorkplaceConfig.root` has other contents.
        OSError: the root or a socket cannot be created.
    """
    supervisor = Supervisor(config.ready_fd)
    with queued_signals() as signals:
        async with PluginServer.running(config, registry) as server:
            logger.info("listening on %s", ", ".join(map(str, server.addresses)))
            supervisor.ready(server.addresses)
            if on_ready is not None:
                on_ready(server.addresses)
            await signals.get()
            supervisor.stopping(f"waiting for {server.requests} running requests")
            hurry = asyncio.create_task(signals.get())
            try:
                await server.drain(config.shutdown_grace, hurry)
            finally:
                hurry.cancel()


class _State:
    """Why the server is not ready, if it is not."""

    def __init__(self) -> None:
        self.text = "the server is starting"

    async def obstacle(self) -> str:
        return self.text


class PluginServer:
    """A running server.

    Attributes:
        addresses: The addresses it listens at.
        sessions: The sessions of its clients. Clients in this process can attach directly.
    """

    def __init__(
        self,
        service: ExporterService,
        health_service: health.aio.HealthServicer,
        sessions: SessionManager,
        jobs: Jobs,
        tokens: FinalizeStore,
        state: _State,
    ) -> None:
        self.addresses: tuple[Address, ...] = ()
        self.sessions = sessions
        self._service = service
        self._health = health_service
        self._jobs = jobs
        self._tokens = tokens
        self._state = state

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        config: ServerConfig,
        registry: Registry | None = None,
    ) -> AsyncIterator[PluginServer]:
        """Start a server. At the end, stop it and cancel requests in flight.

        Args:
            config: The configuration.
            registry: See `serve`.

        Raises:
            ExporterError, OSError: see `serve`.
        """
        addresses = listen_addresses(config.addresses, field="addresses")
        patterns = [AddressPattern.parse(text, field="allow_endpoints") for text in config.allow_endpoints]
        raise_file_limit()
        async with AsyncExitStack() as stack:
            state = _State()
            shown = await stack.enter_async_context(watched(config.metrics_address, state.obstacle))
            metrics = _metrics(shown)
            admission = Admission(config.max_concurrent_exports, config.max_queued_exports)
            tokens, jobs, sessions = FinalizeStore(config.finalize_ttl), Jobs(), SessionManager()
            metrics.watch(sessions=lambda: len(sessions), queued=lambda: admission.waiting)
            workplace = await stack.enter_async_context(
                open_workplace(config.workplace, admission=admission, tokens=tokens)
            )
            if problem := await problem_of_store(config.workplace):
                logger.warning("%s. Until then, only exports that store no image work", problem)
            for problem in await config.operator.problems() if config.operator is not None else ():
                logger.warning("%s", problem)
            service = ExporterService(
                registry=registry or default_registry(),
                engine=workplace.engine,
                tokens=tokens,
                peers=Peers(
                    sessions=sessions,
                    session_timeout=config.session_timeout,
                    store=workplace.store,
                    shared=workplace.shared,
                    allowed=patterns,
                    metrics=metrics,
                    operator=config.operator,
                ),
                jobs=jobs,
                metrics=metrics,
            )
            server = cls(service, health.aio.HealthServicer(), sessions, jobs, tokens, state)
            services = SessionServices.of([partial(_register, service, server._health, sessions)])
            calls = await stack.enter_async_context(
                CallServer.open(services, max_message_bytes=config.max_message_bytes)
            )
            server.addresses = tuple(
                [
                    await stack.enter_async_context(
                        accepting(calls.protocol, address, config.tls, insecure=config.insecure_listen)
                    )
                    for address in addresses
                ]
            )
            stack.push_async_callback(calls.stop, HANGUP_SECONDS)
            stack.push_async_callback(sessions.close)
            stack.push_async_callback(server._cancel)
            for name in SERVICES:
                await server._health.set(name, health_pb2.HealthCheckResponse.SERVING)
            state.text = ""
            yield server

    @property
    def requests(self) -> int:
        """The number of requests in flight."""
        return len(self._jobs)

    async def drain(self, grace: float, hurry: asyncio.Task[object]) -> None:
        """Reject new exports and wait for running ones, for up to `grace` seconds or until `hurry`."""
        logger.info("shutting down: waiting up to %g s for %d running requests", grace, len(self._jobs))
        self._state.text = "the server is shutting down"
        await self._health.enter_graceful_shutdown()
        self._service.drain()
        done = asyncio.create_task(self._done())
        try:
            await asyncio.wait((done, hurry), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        finally:
            done.cancel()

    async def _done(self) -> None:
        while len(self._jobs) or self._tokens.unpublished(FINALIZE_SECONDS):
            await self._jobs.wait()
            await asyncio.sleep(0.05)

    async def _cancel(self) -> None:
        if len(self._jobs):
            logger.warning("cancelling %d running requests", len(self._jobs))
        self._jobs.stop()
        try:
            async with asyncio.timeout(CLEANUP_SECONDS):
                await self._jobs.wait()
        except TimeoutError:
            logger.error("%d requests did not end after cancellation and are abandoned", len(self._jobs))


def _metrics(registry: CollectorRegistry | None) -> Metrics:
    if registry is None:
        return Metrics()
    from exporter.server.prometheus import PrometheusMetrics  # an extra

    return PrometheusMetrics(registry)


def _register(
    service: ExporterService,
    health_service: health.aio.HealthServicer,
    sessions: SessionManager,
    server: grpc.aio.Server,
) -> None:
    exporter_pb2_grpc.add_ExporterServiceServicer_to_server(service, server)
    SessionService(sessions).register(server)
    server.add_generic_rpc_handlers((_NoDaemon(),))
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    add_reflection(server, (*SERVICES, health.SERVICE_NAME))


class _NoDaemon(grpc.GenericRpcHandler):
    """Tells clients that this is not a BuildKit daemon."""

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        if not handler_call_details.method.startswith(f"/{SERVICES[1]}/"):
            return None

        async def refuse(requests: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED,
                "this is a plugin server of buildkit-exporter, not a BuildKit daemon; buildctl and buildx "
                "can use its exporters through `buildkit-exporter proxy`",
            )

        return grpc.stream_stream_rpc_method_handler(refuse)
