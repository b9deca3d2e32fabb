"""BuildKit for programs: `Client`."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from typing_extensions import Unpack

from exporter.client.building import Building, Consumer, Recipe
from exporter.client.client import CONNECT_SECONDS, BuildkitClient
from exporter.client.connecting import TLS, DaemonConnection, daemon_address, open_connection
from exporter.client.contexts import Context, NamedContext
from exporter.client.credentials import Auth, registry_options
from exporter.client.events import Event, EventReader, StepOutput
from exporter.client.gateway import Gateway
from exporter.client.llb import State
from exporter.client.opened import OpenedBuild
from exporter.client.request import BuildOptions, checked_options
from exporter.client.results import AttestationDocument, BuildResult, read_attestations
from exporter.client.running import Build, EventHandler
from exporter.daemon.records import BuildRecord, CacheRecord, HistoryChange, Version, Worker
from exporter.errors import ExporterError, InvalidArgumentError, NotFoundError
from exporter.pb.moby.buildkit.v1.frontend import gateway_pb2
from exporter.pb.pb import ops_pb2
from exporter.progress.model import StatusSink
from exporter.remotes.registry import RegistryOptions

if TYPE_CHECKING:
    from exporter.engine.config import WorkplaceConfig
    from exporter.takeover.local import LocalBackend


class Client:
    """A client of a buildkitd, or of a Docker engine's BuildKit.

    ::

        async with Client() as client:
            result = await client.build(".", tags="docker.io/me/app", outputs=OCIOutput(dest="app.tar"))
            print(result.digest)

    It connects when it is first used, and again if the connection was lost. Any number of builds and calls
    may run at the same time. All of them have to use the same event loop; `exporter.client.sync` has the same
    without one.

    Args:
        address: ``unix:///PATH``, ``tcp://HOST:PORT``, ``docker-container://NAME``,
            ``podman-container://NAME``, ``nerdctl-container://NAME``, ``kube-pod://POD``, ``ssh://HOST``, or
            ``docker`` for the Docker engine that docker itself would use; ``$BUILDKIT_HOST`` or buildkitd's
            default if None.
        tls: TLS for ``tcp://``.
        auth: Credentials for registries: an object, a function that is called with the host, or a mapping by
            host; docker's configuration if None.
        timeout: The timeout for connecting, in seconds.
        workplace: The image store and limits of exporters in this process; the user's defaults if None.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        tls: TLS | None = None,
        auth: Auth | RegistryOptions | None = None,
        timeout: float = CONNECT_SECONDS,
        workplace: WorkplaceConfig | None = None,
    ) -> None:
        self.address = daemon_address(address, os.environ)
        self._tls = tls
        self._registries = registry_options(auth)
        self._timeout = timeout
        self._workplace = workplace
        self._builds: dict[str, Build] = {}
        self._lock = asyncio.Lock()
        self._connecting = AsyncExitStack()
        self._connection: DaemonConnection | None = None
        self._resources = AsyncExitStack()
        self._backend: LocalBackend | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> BuildkitClient:
        """Connect to the daemon, unless there is a connection.

        Returns:
            The client for calls without a method here. It works as long as the connection does.

        Raises:
            InvalidArgumentError: the address is invalid.
            UnavailableError: the daemon is not reachable; says why.
        """
        return (await self._connected()).client

    async def close(self) -> None:
        """Cancel the running builds, and disconnect. The client can be used again."""
        builds = list(self._builds.values())
        for build in builds:
            build.cancel()
        for build in builds:
            await build.wait()
        async with self._lock:
            self._backend, self._connection = None, None
            await self._resources.aclose()
            await self._connecting.aclose()

    async def build(
        self, context: Context = ".", *, on_event: EventHandler | None = None, **options: Unpack[BuildOptions]
    ) -> BuildResult:
        """Build. Cancelling this cancels the build in the daemon.

        Args:
            context: The context.
            on_event: Receives the events.
            options: See `BuildOptions`.

        Raises:
            BuildError: the build failed.
            BuildCancelledError: the build was cancelled by `cancel`.
            ExporterError: an option is invalid, an export of ours failed, or the daemon is not reachable.
        """
        return await self._start(Recipe(context), on_event, options)

    def start(
        self, context: Context = ".", *, on_event: EventHandler | None = None, **options: Unpack[BuildOptions]
    ) -> Build:
        """Start a build, to iterate over its events; see `Build`.

        Args:
            context: The context.
            on_event: Receives the events.
            options: See `BuildOptions`.

        Raises:
            InvalidArgumentError: a build with this ID is running.
        """
        return self._start(Recipe(context), on_event, options, is_iterated=True)

    def open(
        self, context: Context = ".", *, on_event: EventHandler | None = None, **options: Unpack[BuildOptions]
    ) -> AbstractAsyncContextManager[OpenedBuild]:
        """Build, and look at the result before it is exported; see `OpenedBuild`.

        ::

            async with client.open(".", target="test") as built:
                report = await built.read("/report.xml")
                await built.run(["/bin/app", "--version"], check=True)

        At the end of the block, the outputs are made. If it ends with an exception, the build is cancelled.

        Args:
            context: The context.
            on_event: Receives the events.
            options: See `BuildOptions`.

        Raises:
            BuildError: the build failed.
            ExporterError: an option is invalid, an export of ours failed, or the daemon is not reachable.
        """
        return self._open(Recipe(context), on_event, options)

    async def solve(
        self,
        state: State | ops_pb2.Definition,
        *,
        directories: Mapping[str, NamedContext] | None = None,
        layouts: Mapping[str, str | Path] | None = None,
        on_event: EventHandler | None = None,
        **options: Unpack[BuildOptions],
    ) -> BuildResult:
        """Build a definition in LLB; see `exporter.client.llb`.

        Args:
            state: The definition. Its platform is the one in ``platforms``, or else the daemon's own.
            directories: The directories that it may read (`llb.local`), by name.
            layouts: The image layouts that it may read (`llb.oci_layout`), by name.
            on_event: Receives the events.
            options: See `BuildOptions`; without those of the Dockerfile frontend.

        Raises:
            BuildError: the build failed.
            ExporterError: an option is invalid, an export of ours failed, or the daemon is not reachable.
        """
        return await self._start(Recipe(None, state, directories, layouts), on_event, options)

    def open_llb(
        self,
        state: State | ops_pb2.Definition,
        *,
        directories: Mapping[str, NamedContext] | None = None,
        layouts: Mapping[str, str | Path] | None = None,
        on_event: EventHandler | None = None,
        **options: Unpack[BuildOptions],
    ) -> AbstractAsyncContextManager[OpenedBuild]:
        """Like `open`, with a definition in LLB; see `solve`."""
        return self._open(Recipe(None, state, directories, layouts), on_event, options)

    def cancel(self, ref: str) -> bool:
        """Cancel a running build of this client by its ID.

        Returns:
            Whether there is one.
        """
        build = self._builds.get(ref)
        if build is None:
            return False
        build.cancel()
        return True

    @property
    def running(self) -> tuple[str, ...]:
        """The IDs of this client's running builds."""
        return tuple(self._builds)

    async def workers(self, *filters: str) -> list[Worker]:
        """List the daemon's workers, the default one first.

        Raises:
            ExporterError: the daemon does not answer, or rejects a filter.
        """
        return await (await self.connect()).workers(*filters)

    async def info(self) -> Version:
        """Return the daemon's version.

        Raises:
            ExporterError: the daemon does not answer, or is older than v0.11.
        """
        return await (await self.connect()).info()

    async def disk_usage(self, *filters: str) -> dict[str, CacheRecord]:
        """Return the records of the daemon's cache by ID; see `BuildkitClient.disk_usage`.

        Raises:
            ExporterError: the daemon does not answer, or rejects a filter.
        """
        return await (await self.connect()).disk_usage(*filters)

    async def prune(
        self,
        *filters: str,
        all: bool = False,
        keep_duration: float = 0.0,
        reserved_space: int = 0,
        max_used_space: int = 0,
        min_free_space: int = 0,
    ) -> list[CacheRecord]:
        """Remove unused records from the daemon's cache, and return them; see `BuildkitClient.prune`.

        Raises:
            ExporterError: the daemon does not answer, or rejects a filter.
        """
        removed = (await self.connect()).prune(
            *filters,
            all=all,
            keep_duration=keep_duration,
            reserved_space=reserved_space,
            max_used_space=max_used_space,
            min_free_space=min_free_space,
        )
        return [record async for record in removed]

    async def history(self, *filters: str, limit: int = 0) -> list[BuildRecord]:
        """List the builds in the daemon's history, including running ones.

        Args:
            filters: Filters in containerd's syntax.
            limit: The maximum number of builds; 0 for no limit.

        Raises:
            ExporterError: the daemon does not answer, or has no history.
        """
        return await (await self.connect()).history(filters=filters, limit=limit)

    async def record(self, ref: str) -> BuildRecord:
        """Find a build in the daemon's history.

        Raises:
            NotFoundError: there is no such build.
            ExporterError: the daemon does not answer, or has no history.
        """
        client = await self.connect()
        try:
            found = await client.history(ref=ref)
        except ExporterError as error:
            if "is deleted" not in error.message:
                raise
            found = []  # it was deleted while somebody looks at it
        if not found:
            raise NotFoundError(f"there is no build {ref} in the history of {self.address}")
        return found[0]

    async def watch_history(
        self, *filters: str, active_only: bool = False
    ) -> AsyncIterator[tuple[HistoryChange, BuildRecord]]:
        """Follow the daemon's history: first what is in it, then each change, until the caller stops.

        Args:
            filters: Filters in containerd's syntax.
            active_only: Whether to follow running builds only.

        Raises:
            ExporterError: the daemon does not answer, or has no history.
        """
        async for change in (await self.connect()).watch_history(*filters, active_only=active_only):
            yield change

    async def events(self, ref: str) -> AsyncIterator[Event]:
        """Iterate over the events of any build of the daemon: those of the past, and those to come.

        Raises:
            ExporterError: there is no such build, or the daemon does not answer.
        """
        reader = EventReader()
        async for update in (await self.connect()).status(ref):
            for event in reader.read(update):
                yield event

    async def logs(self, ref: str) -> bytes:
        """The output of all steps of a build, in the order of its arrival. A running build is waited for.

        Raises:
            ExporterError: there is no such build, or the daemon does not answer.
        """
        return b"".join([event.data async for event in self.events(ref) if isinstance(event, StepOutput)])

    async def pin(self, ref: str, *, pinned: bool = True) -> None:
        """Keep the record of a build until it is deleted, or no longer.

        Raises:
            ExporterError: there is no such build, or the daemon has no history.
        """
        await (await self.connect()).update_history(ref, pinned=pinned)

    async def delete_record(self, ref: str) -> None:
        """Delete the record of a build from the daemon's history.

        Raises:
            ExporterError: there is no such build, or the daemon has no history.
        """
        await (await self.connect()).update_history(ref, delete=True)

    async def attestations(self, ref: str) -> tuple[AttestationDocument, ...]:
        """Read the attestations of a build in the daemon's history.

        Raises:
            NotFoundError: there is no such build, or a blob was removed.
            ExporterError: the daemon does not answer, or has no history.
        """
        record = await self.record(ref)
        return await read_attestations((await self.connect()).content, record)

    def _start(
        self,
        recipe: Recipe,
        on_event: EventHandler | None,
        options: BuildOptions,
        *,
        is_iterated: bool = False,
        consumer: Consumer | None = None,
    ) -> Build:
        options = checked_options(options)
        ref = options.get("ref") or uuid.uuid4().hex
        if ref in self._builds:
            raise InvalidArgumentError(f"a build with the ID {ref} is running: give another ref")
        building = Building(ref, recipe, options, self._registries, consumer)

        async def run(sink: StatusSink, events: EventReader) -> BuildResult:
            return await building.run(await self._connected(), self._local_backend, sink, events)

        build = Build(
            ref, run, on_event, is_iterated=is_iterated, on_end=partial(self._builds.pop, ref, None)
        )
        self._builds[ref] = build
        return build

    @asynccontextmanager
    async def _open(
        self, recipe: Recipe, on_event: EventHandler | None, options: BuildOptions
    ) -> AsyncIterator[OpenedBuild]:
        opened: asyncio.Future[OpenedBuild] = asyncio.get_running_loop().create_future()
        leave = asyncio.Event()

        async def hold(gateway: Gateway, result: gateway_pb2.Result) -> None:
            opened.set_result(OpenedBuild(gateway, build.ref, result))
            await leave.wait()

        async with self._start(recipe, on_event, options, consumer=hold) as build:
            await build.wait_for(opened)
            if not opened.done():
                await build  # raises the failure
            yield opened.result()
            leave.set()
            opened.result().result = await build

    async def _connected(self) -> DaemonConnection:
        async with self._lock:
            if self._connection is not None and self._connection.is_lost():
                self._connection = None
                await self._connecting.aclose()
            if self._connection is None:
                opening = open_connection(self.address, self._tls, timeout=self._timeout)
                self._connection = await self._connecting.enter_async_context(opening)
            return self._connection

    async def _local_backend(self) -> LocalBackend:
        async with self._lock:
            if self._backend is None:
                from exporter.engine.config import WorkplaceConfig
                from exporter.exporters.registry import default_registry
                from exporter.takeover.local import LocalBackend

                workplace = self._workplace or WorkplaceConfig()
                opening = LocalBackend.open(workplace, default_registry())
                self._backend = await self._resources.enter_async_context(opening)
            return self._backend
