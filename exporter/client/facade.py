"""BuildKit for programs: `Client`."""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from typing_extensions import Unpack

from exporter.client.client import CONNECT_SECONDS, BuildkitClient
from exporter.client.connecting import TLS, DaemonConnection, daemon_address, open_connection
from exporter.client.contexts import Context, OpenContexts, open_contexts
from exporter.client.credentials import Auth, registry_options
from exporter.client.events import EventReader
from exporter.client.options import DOCKERFILE_FRONTEND, SolveOptions
from exporter.client.planning import PlannedOutput, outputs_of, plan_engine_output, plan_output, runs_here
from exporter.client.request import (
    BuildOptions,
    agents_of,
    cache_places,
    checked_options,
    entitlements_of,
    frontend_attributes,
    frontend_of,
    secrets_of,
    tags_of,
)
from exporter.client.results import AttestationDocument, BuildResult, output_results, read_attestations
from exporter.client.running import Build, EventHandler
from exporter.daemon.records import BuildRecord, CacheRecord, Version, Worker
from exporter.errors import ExporterError, InvalidArgumentError, NotFoundError
from exporter.progress.model import StatusSink
from exporter.remotes.registry import RegistryOptions

if TYPE_CHECKING:
    from exporter.engine.config import WorkplaceConfig
    from exporter.takeover.local import LocalBackend

_RESOLVE_MODE = "image-resolve-mode"

_LOG = logging.getLogger(__name__)


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
        return await self._start(context, on_event, options, is_iterated=False)

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
        return self._start(context, on_event, options, is_iterated=True)

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
        found = await (await self.connect()).history(ref=ref)
        if not found:
            raise NotFoundError(f"there is no build {ref} in the history of {self.address}")
        return found[0]

    async def attestations(self, ref: str) -> tuple[AttestationDocument, ...]:
        """Read the attestations of a build in the daemon's history.

        Raises:
            NotFoundError: there is no such build, or a blob was removed.
            ExporterError: the daemon does not answer, or has no history.
        """
        record = await self.record(ref)
        return await read_attestations((await self.connect()).content, record)

    def _start(
        self, context: Context, on_event: EventHandler | None, options: BuildOptions, *, is_iterated: bool
    ) -> Build:
        options = checked_options(options)
        ref = options.get("ref") or uuid.uuid4().hex
        if ref in self._builds:
            raise InvalidArgumentError(f"a build with the ID {ref} is running: give another ref")
        run = partial(self._build, ref, context, options)
        build = Build(
            ref, run, on_event, is_iterated=is_iterated, on_end=partial(self._builds.pop, ref, None)
        )
        self._builds[ref] = build
        return build

    async def _build(
        self, ref: str, context: Context, options: BuildOptions, sink: StatusSink, events: EventReader
    ) -> BuildResult:
        connection = await self._connected()
        opening = open_contexts(
            context, options.get("dockerfile"), options.get("dockerfile_inline"), options.get("contexts")
        )
        async with opening as contexts:
            planned = await self._plan(options, connection, sink)
            wanted = self._solve_options(ref, options, contexts, planned, connection)
            solved = await connection.client.solve(wanted, sink)
        record, attestations = await self._recorded(connection.client, ref)
        return BuildResult(
            ref=ref,
            metadata=solved.response,
            outputs=output_results(planned, solved, record),
            steps=tuple(events.steps.values()),
            warnings=tuple(events.warnings),
            attestations=attestations,
        )

    async def _plan(
        self, options: BuildOptions, connection: DaemonConnection, sink: StatusSink
    ) -> list[PlannedOutput]:
        tags, is_engine = tags_of(options), connection.engine is not None
        outputs = outputs_of(options.get("outputs"), tags, for_engine=is_engine)
        if is_engine:
            if len(outputs) > 1:
                raise InvalidArgumentError(
                    "a Docker engine makes only one output per build: run a build for each of them"
                )
            return [plan_engine_output(output, tags) for output in outputs]
        backend = await self._local_backend() if any(map(runs_here, outputs)) else None
        return [await plan_output(output, tags, backend, sink) for output in outputs]

    def _solve_options(
        self,
        ref: str,
        options: BuildOptions,
        contexts: OpenContexts,
        planned: Sequence[PlannedOutput],
        connection: DaemonConnection,
    ) -> SolveOptions:
        frontend, selection = frontend_of(options, DOCKERFILE_FRONTEND)
        attrs = frontend_attributes(options) | contexts.attrs | selection
        if connection.engine is not None:  # prefer images of its own store, like docker
            attrs.setdefault(_RESOLVE_MODE, "local")
        auth, source = options.get("auth"), options.get("save_source")
        return SolveOptions(
            frontend=frontend,
            frontend_attrs=attrs | dict(options.get("frontend_attrs") or {}),
            exports=[plan.export for plan in planned],
            directories=contexts.directories,
            stores=contexts.stores,
            secrets=secrets_of(options),
            ssh=agents_of(options, needs_agent=contexts.needs_agent),
            registries=self._registries if auth is None else registry_options(auth),
            cache_imports=cache_places(options.get("cache_from"), {}),
            cache_exports=cache_places(options.get("cache_to"), {"mode": "min"}),
            entitlements=entitlements_of(options),
            ref=ref,
            shared_key=contexts.shared_key,
            strict=options.get("strict") or False,
            save_source=None if source is None else Path(source),
            services=contexts.services,
        )

    async def _recorded(
        self, client: BuildkitClient, ref: str
    ) -> tuple[BuildRecord | None, tuple[AttestationDocument, ...]]:
        """What the daemon's history has about a build that has just ended. Not every daemon keeps one."""
        try:
            found = await client.history(ref=ref)
            if not found:
                return None, ()
            return found[0], await read_attestations(client.content, found[0])
        except ExporterError as error:
            _LOG.debug("build %s: the daemon's history: %s", ref, error)
            return None, ()

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
