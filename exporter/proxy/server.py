"""Assembling the proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from exporter.proxy.builds import Builds
from exporter.proxy.control import ControlProxy
from exporter.proxy.daemon import Daemon
from exporter.proxy.daemon_calls import DaemonCalls
from exporter.proxy.decision import BuildRouter
from exporter.proxy.metrics import ProxyMetrics
from exporter.proxy.switch import Switch
from exporter.rpc.answering import Answering
from exporter.rpc.http2.sockets import Scheduler
from exporter.takeover.access import OperatorAccess
from exporter.takeover.build import BuildOptions
from exporter.takeover.plan import Routes


@asynccontextmanager
async def running_switch(
    daemon: Daemon,
    routes: Routes,
    options: BuildOptions,
    metrics: ProxyMetrics | None = None,
    operator: OperatorAccess | None = None,
) -> AsyncIterator[Switch]:
    """Run a proxy. The caller passes it the clients' sockets.

    Args:
        daemon: The daemon.
        routes: Where exporters run.
        options: The operator's options.
        metrics: Records metrics, if given.
        operator: The credentials for registries that the operator lends to clients, if any.
    """
    builds = Builds()
    metrics = metrics or ProxyMetrics()
    control = ControlProxy(daemon.channel, routes, builds, options)
    async with Answering.open() as answering:
        router = BuildRouter(
            routes, builds, answering, solve=control.solve, status=control.status, metrics=metrics
        )
        switch = Switch(
            daemon,
            Scheduler(),
            router=router,
            history=control.history,
            answering=answering,
            calls=DaemonCalls(daemon.channel, operator),
            builds=builds,
            metrics=metrics,
        )
        metrics.watch(builds=lambda: switch.solves, connections=lambda: switch.connections)
        try:
            yield switch
        finally:
            switch.close()
