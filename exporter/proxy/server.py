"""The proxy as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from exporter.proxy.builds import Builds
from exporter.proxy.client import Clients
from exporter.proxy.control import SOLVE_METHOD, STATUS_METHOD, ControlProxy
from exporter.proxy.daemon import Daemon
from exporter.proxy.decision import BuildRouter
from exporter.proxy.metrics import ProxyMetrics
from exporter.proxy.session_services import SessionServices
from exporter.proxy.switch import Switch
from exporter.rpc.handlers import RawHandler, raw_server
from exporter.rpc.http2.sockets import Scheduler, dialling
from exporter.rpc.session.tunnel import started
from exporter.takeover.build import BuildOptions
from exporter.takeover.plan import Routes
from exporter.takeover.session_client import FILE_SEND_METHOD, FIND_EXPORTERS_METHOD

_MAX_METADATA_BYTES = 16 << 20

_OWN_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A build's error has its Dockerfile in it, with the place that is to blame.
    ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
)


@asynccontextmanager
async def running_switch(
    daemon: Daemon, routes: Routes, options: BuildOptions, metrics: ProxyMetrics | None = None
) -> AsyncIterator[Switch]:
    """Run a proxy, which is to be given its clients' sockets.

    Args:
        daemon: The daemon.
        routes: Where exporters run.
        options: The operator's.
        metrics: Counts what is done; None for nothing.
    """
    clients, builds = Clients(), Builds()
    metrics = metrics or ProxyMetrics()
    control = ControlProxy(daemon.channel, routes, builds, options)
    services = SessionServices(clients, builds, daemon.channel)
    handlers: dict[str, RawHandler] = {
        SOLVE_METHOD: control.solve,
        STATUS_METHOD: control.status,
        FIND_EXPORTERS_METHOD: services.find_exporters,
        FILE_SEND_METHOD: services.send_file,
    }
    async with raw_server(handlers.__getitem__, _OWN_OPTIONS) as server, started(server) as path:
        scheduler = Scheduler()
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_unix_connection(dialling(scheduler), path)
        own = protocol.connection
        assert own is not None
        switch = Switch(
            daemon,
            own,
            scheduler,
            router=BuildRouter(routes, builds, own, metrics),
            clients=clients,
            builds=builds,
            metrics=metrics,
        )
        metrics.watch(builds=lambda: switch.solves, connections=lambda: switch.connections)
        try:
            yield switch
        finally:
            switch.close()
            own.close()
