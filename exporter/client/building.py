"""A build from a caller's options to its result."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.client.client import BuildkitClient
from exporter.client.connecting import DaemonConnection
from exporter.client.contexts import OpenContexts, open_contexts, open_directories
from exporter.client.credentials import registry_options
from exporter.client.events import EventReader
from exporter.client.gateway import Gateway
from exporter.client.llb import State
from exporter.client.options import DOCKERFILE_FRONTEND, SolveOptions
from exporter.client.planning import PlannedOutput, outputs_of, plan_engine_output, plan_output, runs_here
from exporter.client.request import (
    BuildOptions,
    agents_of,
    cache_places,
    entitlements_of,
    frontend_attributes,
    frontend_of,
    refuse_frontend_options,
    secrets_of,
    tags_of,
)
from exporter.client.results import AttestationDocument, BuildResult, output_results, read_attestations
from exporter.client.solving import SolveResult
from exporter.daemon.records import BuildRecord
from exporter.errors import ExporterError, InvalidArgumentError
from exporter.image import Platform
from exporter.pb.moby.buildkit.v1.frontend import gateway_pb2
from exporter.pb.pb import ops_pb2
from exporter.progress.model import StatusSink

if TYPE_CHECKING:
    from exporter.client.contexts import Context, NamedContext
    from exporter.remotes.registry import RegistryOptions
    from exporter.takeover.local import LocalBackend

Consumer = Callable[[Gateway, gateway_pb2.Result], Awaitable[None]]
"""Uses the result of a build while the daemon holds it."""

_SNAPSHOTTER_LABEL = "org.mobyproject.buildkit.worker.snapshotter"
"""A worker's label that only an engine which stores images in containerd has."""

_RESOLVE_MODE = "image-resolve-mode"

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to build: a Dockerfile's context, or a definition in LLB.

    Attributes:
        context: The context; None for a definition.
        state: The definition.
        directories: The directories that the definition may read, by name.
        layouts: The image layouts that it may read, by name.
    """

    context: Context | None = None
    state: State | ops_pb2.Definition | None = None
    directories: Mapping[str, NamedContext] | None = None
    layouts: Mapping[str, str | Path] | None = None

    def open(self, options: BuildOptions) -> AbstractAsyncContextManager[OpenContexts]:
        """Prepare what the daemon may read."""
        if self.context is None:
            return open_directories(self.directories or {}, self.layouts or {})
        return open_contexts(
            self.context,
            options.get("dockerfile"),
            options.get("dockerfile_inline"),
            options.get("contexts"),
        )


@dataclass(frozen=True, slots=True)
class Building:
    """One build.

    Attributes:
        ref: Its ID.
        recipe: What to build.
        options: The caller's options.
        registries: The client's configuration for registries.
        consumer: Uses the result before it is exported, if there is one.
    """

    ref: str
    recipe: Recipe
    options: BuildOptions
    registries: RegistryOptions | None
    consumer: Consumer | None = None

    async def run(
        self,
        connection: DaemonConnection,
        open_backend: Callable[[], Awaitable[LocalBackend]],
        sink: StatusSink,
        events: EventReader,
    ) -> BuildResult:
        """Run it.

        Args:
            connection: The daemon.
            open_backend: Opens what runs exporters in this process.
            sink: Receives the progress.
            events: Has read all of the progress when the build has ended.

        Raises:
            BuildError: the build failed.
            ExporterError: an option is invalid, an export of ours failed, or the daemon is not reachable.
        """
        if self.recipe.context is None:
            refuse_frontend_options(self.options)
        async with self.recipe.open(self.options) as contexts:
            planned = await self._plan(connection, open_backend, sink)
            wanted = await self._solve_options(contexts, planned, connection)
            solved = await self._solve(connection.client, wanted, sink)
            solved = await _pushed(connection, planned, wanted, solved, sink)
        record, attestations = await _recorded(connection.client, self.ref)
        return BuildResult(
            ref=self.ref,
            metadata=solved.response,
            outputs=output_results(planned, solved, record),
            steps=tuple(events.steps.values()),
            warnings=tuple(events.warnings),
            attestations=attestations,
        )

    async def _solve(self, client: BuildkitClient, wanted: SolveOptions, sink: StatusSink) -> SolveResult:
        consumer = self.consumer
        if consumer is None:
            return await client.solve(wanted, sink)

        async def frontend(gateway: Gateway) -> gateway_pb2.Result:
            result = await gateway.solve(
                definition=wanted.definition,
                frontend=wanted.frontend,
                frontend_attrs=wanted.frontend_attrs,
                evaluate=True,
            )
            await consumer(gateway, result)
            return result

        return await client.build(replace(wanted, frontend="", definition=None), frontend, sink)

    async def _plan(
        self,
        connection: DaemonConnection,
        open_backend: Callable[[], Awaitable[LocalBackend]],
        sink: StatusSink,
    ) -> list[PlannedOutput]:
        tags, is_engine = tags_of(self.options), connection.engine is not None
        given = self.options.get("outputs")
        outputs = outputs_of(given, tags, for_engine=is_engine and self.consumer is None)
        if is_engine:
            if len(outputs) > 1:
                raise InvalidArgumentError(
                    "a Docker engine makes only one output per build: run a build for each of them"
                )
            workers = await connection.client.workers()
            pushes = any(_SNAPSHOTTER_LABEL in worker.labels for worker in workers)
            return [plan_engine_output(output, tags, exporter_pushes=pushes) for output in outputs]
        backend = await open_backend() if any(map(runs_here, outputs)) else None
        return [await plan_output(output, tags, backend, sink) for output in outputs]

    async def _solve_options(
        self, contexts: OpenContexts, planned: Sequence[PlannedOutput], connection: DaemonConnection
    ) -> SolveOptions:
        options = self.options
        auth, source = options.get("auth"), options.get("save_source")
        wanted = SolveOptions(
            exports=[plan.export for plan in planned],
            directories=contexts.directories,
            stores=contexts.stores,
            secrets=secrets_of(options),
            ssh=agents_of(options, needs_agent=contexts.needs_agent),
            registries=self.registries if auth is None else registry_options(auth),
            cache_imports=cache_places(options.get("cache_from"), {}),
            cache_exports=cache_places(options.get("cache_to"), {"mode": "min"}),
            entitlements=entitlements_of(options),
            ref=self.ref,
            shared_key=contexts.shared_key,
            strict=options.get("strict") or False,
            save_source=None if source is None else Path(source),
            services=contexts.services,
        )
        if self.recipe.context is None:
            return replace(wanted, definition=await self._definition(connection))
        frontend, selection = frontend_of(options, DOCKERFILE_FRONTEND)
        attrs = frontend_attributes(options) | contexts.attrs | selection
        if connection.engine is not None:  # prefer images of its own store, like docker
            attrs.setdefault(_RESOLVE_MODE, "local")
        attrs |= dict(options.get("frontend_attrs") or {})
        return replace(wanted, frontend=frontend, frontend_attrs=attrs)

    async def _definition(self, connection: DaemonConnection) -> ops_pb2.Definition:
        state = self.recipe.state
        if isinstance(state, ops_pb2.Definition):
            return state
        assert state is not None
        platforms = self.options.get("platforms") or ()
        given = [platforms] if isinstance(platforms, str) else list(platforms)
        if len(given) > 1:
            raise InvalidArgumentError(
                f"platforms: a definition is for one platform, not {len(given)}: solve one at a time"
            )
        if given:
            first = given[0]
            return state.marshal(Platform.parse(first) if isinstance(first, str) else first)
        workers = await connection.client.workers()
        native = [worker.platforms[0] for worker in workers if worker.platforms]
        return state.marshal(native[0] if native else None)


async def _pushed(
    connection: DaemonConnection,
    planned: Sequence[PlannedOutput],
    wanted: SolveOptions,
    solved: SolveResult,
    sink: StatusSink,
) -> SolveResult:
    """Let a Docker engine push what its exporter could not push, and add the digests to the response."""
    names = [name for plan in planned for name in plan.pushes]
    if connection.engine is None or not names:
        return solved
    from exporter.client.engine_push import push_images

    changes = await push_images(connection.engine, names, wanted.registries, solved.response, sink)
    return replace(solved, response=solved.response | changes)


async def _recorded(
    client: BuildkitClient, ref: str
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
