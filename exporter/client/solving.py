"""One build: its session, the Solve call, its progress and the client's frontend, all concurrent."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import grpc.aio

from exporter.client.build_session import BuildSession
from exporter.client.failure import SolveError, StepRecorder, solve_errors
from exporter.client.gateway import BuildFunction, Gateway, run_gateway
from exporter.client.options import CachePlace, Export, OurExport, SolveOptions
from exporter.client.our_exports import OurExports
from exporter.content.threads import run_in_thread
from exporter.errors import InvalidArgumentError
from exporter.pb.moby.buildkit.v1 import control_pb2, control_pb2_grpc
from exporter.progress.model import StatusSink
from exporter.remotes.messages.results import status_update
from exporter.rpc.session.attach import SessionDialer, attach
from exporter.rpc.status import rpc_errors

STATUS_SECONDS = 5.0
"""After the build: how long to wait for the end of the progress while no updates arrive."""

GATEWAY_SECONDS = 5.0
"""The timeout for the Solve call to end after our frontend has failed."""

_CANCELLED_SECONDS = 1.0

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SolveResult:
    """The result of a build.

    Attributes:
        ref: The build's ID.
        session_id: The ID of its session.
        response: The merged response of the exporters; the last value of a key wins.
        our_responses: The responses of our exports, by their indexes in `SolveOptions.exports`.
        daemon_indexes: The daemon's indexes of all exports, in the order of `SolveOptions.exports`.
    """

    ref: str
    session_id: str
    response: dict[str, str]
    our_responses: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    daemon_indexes: Sequence[int] = ()


class Solving:
    """One build.

    Args:
        channel: The channel to the daemon.
        dial: Opens a session; through the channel if None.
        options: The options.
        sink: Receives the progress.
        build: A frontend of ours, instead of the daemon's.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        dial: SessionDialer | None,
        options: SolveOptions,
        sink: StatusSink,
        build: BuildFunction | None,
    ) -> None:
        self._channel = channel
        self._control = control_pb2_grpc.ControlStub(channel)
        self._dial = dial
        # The order that the daemon gets, as indexes in the caller's order.
        self._order = sorted(
            range(len(options.exports)), key=lambda index: _is_layout(options.exports[index])
        )
        self._options = replace(options, exports=[options.exports[index] for index in self._order])
        self._sink = sink
        self._build = build
        self._ref = options.ref or uuid.uuid4().hex
        self._news = asyncio.Event()
        self._steps = StepRecorder()

    async def run(self) -> SolveResult:
        """Run the build.

        Raises:
            InvalidArgumentError: an option is invalid.
            SolveError: the build failed.
            ExporterError: an export of ours failed, or the daemon is not reachable.
        """
        makers = (self._build is not None, self._options.definition is not None, bool(self._options.frontend))
        if sum(makers) != 1:
            raise InvalidArgumentError(
                "a build needs either a definition or a frontend, the daemon's or ours"
            )
        await run_in_thread(self._options.check)
        session_id = uuid.uuid4().hex
        request = self._request(session_id)
        ours = await OurExports.resolve(self._channel, self._options, request)
        async with BuildSession.open(self._options, ours.handlers, ours.daemon_index) as session:
            for warning in session.warnings:
                _LOG.warning("%s", warning)
            self._add_cache_imports(request, session.cache_imports)
            ours.change_request(request)
            attachables = (*session.attachables, ours.register)
            async with attach(
                self._dial or self._channel,
                attachables,
                session_id=session_id,
                shared_key=self._options.shared_key,
            ):
                response = await self._solve(request, ours)
            await session.publish(response)
            return self._result(session_id, response, ours)

    def _result(self, session_id: str, response: dict[str, str], ours: OurExports) -> SolveResult:
        responses = {self._order[index]: found for index, found in ours.responses().items()}
        daemon_indexes = {index: ours.daemon_index(place) for place, index in enumerate(self._order)}
        return SolveResult(
            self._ref, session_id, response, responses, [daemon_indexes[i] for i in sorted(daemon_indexes)]
        )

    async def _solve(self, request: control_pb2.SolveRequest, ours: OurExports) -> dict[str, str]:
        """Run the build and forward its progress, which also adds details to failures."""
        try:
            return await self._solve_and_show(request, ours)
        except SolveError as error:
            self._steps.complete(error)
            error.ref = self._ref
            raise

    async def _solve_and_show(self, request: control_pb2.SolveRequest, ours: OurExports) -> dict[str, str]:
        async with ours.reporting(self._sink):
            status = asyncio.create_task(self._follow_status(ours), name=f"build {self._ref}: status")
            try:
                return await ours.finish(partial(self._solve_with_frontend, request))
            except asyncio.CancelledError:
                await asyncio.wait((status,), timeout=_CANCELLED_SECONDS)
                raise
            finally:
                await self._end_status(status)

    async def _solve_with_frontend(self, request: control_pb2.SolveRequest) -> dict[str, str]:
        solve = asyncio.create_task(self._call_solve(request), name=f"build {self._ref}: solve")
        tasks: list[asyncio.Task[dict[str, str]] | asyncio.Task[None]] = [solve]
        if self._build is not None:
            frontend = run_gateway(Gateway(self._channel, self._ref, request.Cache.Imports), self._build)
            tasks.append(asyncio.create_task(frontend, name=f"build {self._ref}: frontend"))
        try:
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            failed = [task for task in done if task.exception() is not None]
            if failed and solve in pending:
                # The daemon has received the failure and will end the build itself, with complete progress.
                await asyncio.wait((solve,), timeout=GATEWAY_SECONDS)
            for task in failed:
                await task
            return await solve
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled():
                    task.exception()  # retrieved; only the first failure is raised

    async def _call_solve(self, request: control_pb2.SolveRequest) -> dict[str, str]:
        with solve_errors():
            response = await self._control.Solve(request)
        return dict(response.ExporterResponse)

    async def _follow_status(self, ours: OurExports) -> None:
        with rpc_errors("failed to receive status"):
            async for message in self._control.Status(control_pb2.StatusRequest(Ref=self._ref)):
                self._news.set()
                ours.change_status(message)
                update = status_update(message)
                self._steps.record(update)
                self._sink(update)

    async def _end_status(self, status: asyncio.Task[None]) -> None:
        """Wait for the rest of the progress. Its failure does not fail the build."""
        try:
            while not status.done():
                self._news.clear()
                await asyncio.wait((status,), timeout=STATUS_SECONDS)
                if not self._news.is_set():
                    break
        finally:
            status.cancel()
            await asyncio.wait((status,))
        if not status.cancelled() and (error := status.exception()) is not None:
            _LOG.debug("build %s: %s", self._ref, error)

    def _request(self, session_id: str) -> control_pb2.SolveRequest:
        options = self._options
        exports = [control_pb2.Exporter(Type=export.type, Attrs=export.attrs) for export in options.exports]
        request = control_pb2.SolveRequest(
            Ref=self._ref,
            Session=session_id,
            Definition=options.definition,
            Frontend=options.frontend,
            FrontendAttrs=options.frontend_attrs,
            FrontendInputs=options.frontend_inputs,
            Cache=control_pb2.CacheOptions(Exports=map(_cache_entry, options.cache_exports)),
            Entitlements=options.entitlements,
            Internal=options.is_internal,
            CompatibilityVersion=options.compatibility_version,
            Exporters=exports,
        )
        if exports:  # for daemons that support only one exporter
            request.ExporterDeprecated = exports[0].Type
            request.ExporterAttrsDeprecated.update(exports[0].Attrs)
        return request

    def _add_cache_imports(self, request: control_pb2.SolveRequest, places: Sequence[CachePlace]) -> None:
        """Add the cache imports, for the daemon and for frontends."""
        request.Cache.Imports.extend(map(_cache_entry, places))
        if places and self._options.definition is None:
            values = [{"Type": place.type, "Attrs": dict(place.attrs)} for place in places]
            request.FrontendAttrs["cache-imports"] = json.dumps(values)


def _is_layout(export: Export | OurExport) -> bool:
    """Whether an export has to be the last one; see `Export.directory`."""
    return isinstance(export, Export) and export.is_layout


def _cache_entry(place: CachePlace) -> control_pb2.CacheOptionsEntry:
    return control_pb2.CacheOptionsEntry(Type=place.type, Attrs=place.attrs)
