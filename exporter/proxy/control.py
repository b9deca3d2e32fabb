"""The calls of ``moby.buildkit.v1.Control`` that the proxy rewrites: builds, progress, history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import grpc
import grpc.aio

from exporter.errors import Code, ExporterError, failure_of
from exporter.pb.moby.buildkit.v1 import control_pb2, control_pb2_grpc
from exporter.progress.queue import CoalescingQueue
from exporter.proxy.builds import Builds
from exporter.remotes.messages.progress import status_response
from exporter.rpc.forward import Call, end_like, forward, forwarded_metadata, timeout_of
from exporter.rpc.parsing import parse
from exporter.rpc.session.handling import HandlerStream
from exporter.takeover.backend import Resolved
from exporter.takeover.build import BuildOptions, ProxiedBuild
from exporter.takeover.history import restore_record
from exporter.takeover.plan import PlannedExport, Routes, plan_exports

SOLVE_METHOD = "/moby.buildkit.v1.Control/Solve"
STATUS_METHOD = "/moby.buildkit.v1.Control/Status"
HISTORY_METHOD = "/moby.buildkit.v1.Control/ListenBuildHistory"

PROGRESS_INTERVAL = 0.1
"""The interval between our progress messages about a build in seconds, as in BuildKit."""


class ControlProxy:
    """Handles Solve, Status and ListenBuildHistory. Messages are raw bytes.

    Args:
        daemon: The channel to the daemon.
        routes: Where exporters run.
        builds: The builds in progress.
        options: The operator's options.
    """

    def __init__(
        self, daemon: grpc.aio.Channel, routes: Routes, builds: Builds, options: BuildOptions
    ) -> None:
        self._daemon = daemon
        self._routes = routes
        self._builds = builds
        self._options = options

    async def solve(self, context: Call) -> None:
        """Run a build. Our exports are replaced by substitutes in the daemon, which trigger ours.

        Raises:
            ExporterError: an export of ours is invalid or failed, or the proxy is shutting down.
        """
        data = await context.read()
        if data is grpc.aio.EOF:
            return
        request = parse(control_pb2.SolveRequest, data)
        planned = plan_exports(request, self._routes)
        if not planned and not self._builds.is_closed:
            await forward(self._daemon, SOLVE_METHOD, context, first=data)
            return
        async with AsyncExitStack() as stack:
            progress = stack.enter_context(self._builds.progress(request.Ref))
            try:
                self._builds.admit()
                plans = [(plan, await _resolve(plan)) for plan in planned]
                build = ProxiedBuild(request, plans, self._options, progress)
                stack.enter_context(self._builds.running(build))
                stack.push_async_callback(build.discard)
            except BaseException:
                self._builds.refuse(request.Ref)
                raise
            await self._run(build, context)

    async def _run(self, build: ProxiedBuild, context: Call) -> None:
        request = control_pb2.SolveRequest()
        request.CopyFrom(build.request)
        build.change_request(request)
        call = control_pb2_grpc.ControlStub(self._daemon).Solve(
            request,
            metadata=forwarded_metadata(context.invocation_metadata()),
            timeout=timeout_of(context),
        )
        try:
            response = await call
        except grpc.aio.AioRpcError:
            export = build.failed()
            if export is not None and export.failure is not None:
                raise _told_like_daemon(export.failure, export.plan) from None
            await end_like(call, context)
            return
        finally:
            call.cancel()
        try:
            merged = await build.finish(response.ExporterResponse)
        except ExporterError as error:
            if (export := build.failed()) is not None:
                raise _told_like_daemon(error, export.plan) from error.__cause__
            raise
        response.ExporterResponse.clear()
        response.ExporterResponse.update(merged)
        await context.send_initial_metadata(forwarded_metadata(await call.initial_metadata()))
        context.set_trailing_metadata(forwarded_metadata(await call.trailing_metadata()))
        await context.write(response.SerializeToString())

    async def status(self, context: Call) -> None:
        """Forward a build's progress, rewritten and merged with that of our exports."""
        data = await context.read()
        if data is grpc.aio.EOF:
            return
        ref = parse(control_pb2.StatusRequest, data).Ref
        method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = self._daemon.unary_stream(STATUS_METHOD)
        metadata = forwarded_metadata(context.invocation_metadata())
        call = method(data, metadata=metadata, timeout=timeout_of(context))
        with self._builds.progress(ref) as progress, progress.watched() as queue:
            async with HandlerStream(context) as stream:
                watcher = _Watcher(stream, call, lambda: self._builds.find(ref))
                watching = asyncio.create_task(watcher.run(queue), name="progress of a build")
                refused = asyncio.create_task(self._builds.wait_refused(ref), name="refusal of a build")
                try:
                    await asyncio.wait((watching, refused), return_when=asyncio.FIRST_COMPLETED)
                    if watching.done():
                        await watching
                        await end_like(call, context)
                finally:
                    watching.cancel()
                    refused.cancel()
                    call.cancel()
                    await asyncio.wait((watching, refused))

    async def history(self, context: Call) -> None:
        """Forward records of builds, with the exporters that clients requested."""
        await forward(self._daemon, HISTORY_METHOD, context, change=_restored)


class DaemonTextError(ExporterError):
    """A failure without a code in the daemon. Go's clients would show any other code."""


def _told_like_daemon(error: Exception, plan: PlannedExport) -> Exception:
    """Convert a failure to the daemon's form, if the client requested an exporter of the daemon's."""
    failure = failure_of(error)
    if plan.is_taken and failure.code in {Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION}:
        return DaemonTextError(failure.message, field=failure.field)
    return error


async def _resolve(plan: PlannedExport) -> Resolved:
    try:
        return await plan.backend.resolve(plan.index, plan.type, plan.attrs)
    except ExporterError as error:
        raise _told_like_daemon(error, plan) from error.__cause__


def _restored(data: bytes) -> bytes:
    event = control_pb2.BuildHistoryEvent.FromString(data)
    if not event.HasField("record"):
        return data
    restore_record(event.record)
    return event.SerializeToString()


class _Watcher:
    """A client watching a build: two writers on one stream."""

    def __init__(self, stream: HandlerStream, call: Any, find: Callable[[], ProxiedBuild | None]) -> None:
        self._stream = stream
        self._call = call
        self._find = find

    async def run(self, queue: CoalescingQueue) -> None:
        await self._stream.start(forwarded_metadata(await self._call.initial_metadata()))
        # Not earlier, because the first message sends the initial metadata.
        ours = asyncio.create_task(self._send_ours(queue), name="progress of our exports")
        try:
            with suppress(grpc.aio.AioRpcError):  # the call's status tells
                while (data := await self._call.read()) is not grpc.aio.EOF:
                    await self._stream.write(self._changed(data))
            # The daemon's stream may end before the build. Ours ends with the build.
            if self._find() is None:
                queue.close()
            await ours
        finally:
            ours.cancel()
            await asyncio.wait((ours,))

    def _changed(self, data: bytes) -> bytes:
        build = self._find()
        if build is None:
            return data
        message = control_pb2.StatusResponse.FromString(data)
        build.rewrite_status(message)
        return message.SerializeToString()

    async def _send_ours(self, queue: CoalescingQueue) -> None:
        async for update in queue:
            await self._stream.write(status_response(update).SerializeToString())
            await queue.pause(PROGRESS_INTERVAL)
