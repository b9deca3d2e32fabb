"""Where exports of a saved source run: in this process, or on a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.cli.descriptions import ExporterDescription, describe
from exporter.cli.export.delivery import Delivery, LocalDelivery
from exporter.cli.outputs import Output
from exporter.content.threads import run_in_thread
from exporter.engine.config import WorkplaceConfig
from exporter.errors import NotFoundError
from exporter.exporters.registry import Registry
from exporter.progress.model import StatusSink
from exporter.remotes.registry import RegistryOptions
from exporter.takeover.backend import Backend, RegistryAccess
from exporter.takeover.local import LocalBackend

if TYPE_CHECKING:
    from exporter.cli.client import ServerAccess

_SESSION_NAME = "buildkit-exporter export"


@dataclass(frozen=True, slots=True)
class Place:
    """Where exports run.

    Attributes:
        backend: Runs them.
        describe: Describes a type; raises `NotFoundError` if it does not exist.
        access: The user's credentials for registries.
        deliver: Prepares the delivery of the output with an index. An uncommitted delivery is dropped.
    """

    backend: Backend
    describe: Callable[[str], Awaitable[ExporterDescription]]
    access: RegistryAccess
    deliver: Callable[[int, Output, StatusSink], AbstractAsyncContextManager[Delivery]]


@asynccontextmanager
async def here(registry: Registry, workplace: WorkplaceConfig) -> AsyncIterator[Place]:
    """Run exports in this process. At the end, unpublished results are dropped.

    Raises:
        FailedPreconditionError, OSError: the root is not usable.
    """

    async def describe_type(exporter_type: str) -> ExporterDescription:
        return describe(await run_in_thread(registry.get, exporter_type))  # may import a plugin

    async with LocalBackend.open(workplace, registry) as backend:
        access = RegistryAccess((workplace.registries or RegistryOptions()).credentials)
        yield Place(backend, describe_type, access, LocalDelivery.open)


@asynccontextmanager
async def on_server(access: ServerAccess, registries: RegistryOptions | None) -> AsyncIterator[Place]:
    """Run exports on a server, acting as its daemon.

    Args:
        access: How to reach it.
        registries: The user's credentials for registries, which the server gets when it pushes.

    Raises:
        UnavailableError: the server is not reachable.
    """
    from exporter.cli.client import connect, list_exporters  # imports gRPC, which local exports do not need
    from exporter.cli.export.remote_delivery import RemoteDelivery
    from exporter.takeover.access import access_of_user
    from exporter.takeover.plugin_server import PluginBackend

    async with connect(access) as channel:
        kinds = {kind.type: kind for kind in await list_exporters(channel, access)}

        async def describe_type(exporter_type: str) -> ExporterDescription:
            if exporter_type not in kinds:
                types = ", ".join(sorted(kinds))
                raise NotFoundError(
                    f'exporter "{exporter_type}" could not be found (the server has: {types})'
                )
            return kinds[exporter_type]

        def deliver(index: int, output: Output, sink: StatusSink) -> AbstractAsyncContextManager[Delivery]:
            return RemoteDelivery.open(index, output, sink, kinds[output.type].artifact)

        backend = PluginBackend(channel, str(access.address), _SESSION_NAME)
        yield Place(backend, describe_type, access_of_user(registries), deliver)
