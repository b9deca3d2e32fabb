"""A simulated daemon, the proxy in front of it, and its clients, all in the process of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2_grpc

from exporter.client import BuildkitClient, Export, SolveOptions, SolveResult
from exporter.content.overlay import MultiProvider
from exporter.daemon.connection import open_channel
from exporter.daemon.services.content import ContentServicer
from exporter.engine.config import WorkplaceConfig
from exporter.exporters.registry import ENTRY_POINT_GROUP, Registry
from exporter.pb.moby.buildkit.v1 import control_pb2_grpc
from exporter.progress.model import StatusUpdate
from exporter.proxy.daemon import Daemon
from exporter.proxy.metrics import ProxyMetrics
from exporter.proxy.server import running_switch
from exporter.proxy.switch import Switch
from exporter.rpc.address import UnixAddress
from exporter.rpc.diagnosis import Endpoint
from exporter.rpc.http2.sockets import Dial
from exporter.rpc.listen import accepting
from exporter.rpc.status import StatusInterceptor
from exporter.takeover.access import OperatorAccess
from exporter.takeover.build import BuildOptions
from exporter.takeover.local import LocalBackend
from exporter.takeover.plan import Routes
from tests.integration import cli_plugins
from tests.integration.simulator import BEHAVIOUR, SCENARIO, Behaviour
from tests.integration.simulator.daemon import SimulatedDaemon, recorded_content

PATIENCE = 30.0
"""Seconds until a test that waits for something gives up."""

BUILD = "run-chain"


@cache
def _blobs() -> MultiProvider:
    return recorded_content()


def registry() -> Registry:
    """The built-in types, and the plugins of the tests of the command line."""
    return Registry(
        metadata.EntryPoint(kind.type, f"{cli_plugins.__name__}:{kind.__name__}", ENTRY_POINT_GROUP)
        for kind in cli_plugins.PLUGINS
    )


@asynccontextmanager
async def simulated(path: Path, daemon: control_pb2_grpc.ControlServicer) -> AsyncIterator[grpc.aio.Server]:
    """Run a daemon at a socket."""
    server = grpc.aio.server(interceptors=[StatusInterceptor()])
    control_pb2_grpc.add_ControlServicer_to_server(daemon, server)
    ContentServicer(_blobs()).register(server)
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    try:
        yield server
    finally:
        await server.stop(None)


def dialler(path: Path) -> Dial:
    """What connects to a daemon's socket."""
    return lambda make: asyncio.get_running_loop().create_unix_connection(make, str(path))


class Proxied:
    """What a test does with the proxy.

    Attributes:
        switch: The proxy.
        address: Where clients connect.
        output: The operator's directory for files.
        root: The root of the image store.
        daemon: The daemon, as the proxy sees it.
    """

    def __init__(self, switch: Switch, daemon: Daemon, directory: Path) -> None:
        self.switch = switch
        self.daemon = daemon
        self.address = f"unix://{directory}/p"
        self.output = directory / "output"
        self.root = directory / "root"

    async def solve(
        self,
        *exports: Export,
        behaviour: Behaviour = Behaviour.NOTHING,
        updates: list[StatusUpdate] | None = None,
    ) -> SolveResult:
        """Build as a client of BuildKit does."""
        attrs = {SCENARIO: BUILD, BEHAVIOUR: behaviour.value}
        options = SolveOptions(frontend="simulated", frontend_attrs=attrs, exports=exports)
        shown = [] if updates is None else updates
        async with BuildkitClient.connect(self.address) as client, asyncio.timeout(PATIENCE):
            return await client.solve(options, shown.append)

    def scratch(self) -> list[Path]:
        """What exports have left behind."""
        return list((self.root / "scratch").glob("server-*/*"))


@asynccontextmanager
async def proxied(
    directory: Path,
    *,
    daemon: control_pb2_grpc.ControlServicer | None = None,
    taken: Iterable[str] = (),
    metrics: ProxyMetrics | None = None,
    operator: OperatorAccess | None = None,
    **options: Any,
) -> AsyncIterator[Proxied]:
    """Run a daemon and a proxy.

    Args:
        directory: For sockets and files.
        daemon: The daemon's service.
        taken: The daemon's types that are ours.
        metrics: See `running_switch`.
        operator: See `running_switch`.
        **options: Of `BuildOptions`.
    """
    output, path = directory / "output", directory / "d"
    output.mkdir()
    kinds = registry()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(simulated(path, daemon or SimulatedDaemon()))
        config = WorkplaceConfig(root=directory / "root")
        local = await stack.enter_async_context(LocalBackend.open(config, kinds))
        routes = Routes(local=local, local_types=frozenset(kinds.types), remote={}, taken=frozenset(taken))
        channel = await stack.enter_async_context(open_channel(f"unix://{path}"))
        found = Daemon(dialler(path), Endpoint(UnixAddress(str(path))), channel)
        given = BuildOptions(output_dir=output, **options)
        switch = await stack.enter_async_context(running_switch(found, routes, given, metrics, operator))
        listener = accepting(switch.protocol, UnixAddress(f"{directory}/p"), None, insecure=False)
        await stack.enter_async_context(listener)
        yield Proxied(switch, found, directory)
