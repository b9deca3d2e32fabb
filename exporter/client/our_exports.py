"""Our exports in our own build: they run instead of substitutes in the daemon.

This works as in the proxy, see `exporter.takeover.build`. But the session is our own, so nothing needs to be
forwarded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

import grpc.aio

from exporter.client.options import OurExport, SolveOptions
from exporter.daemon.services.receive import FileHandler
from exporter.image import epoch_from_build_args
from exporter.image.options.attributes import SOURCE_DATE_EPOCH
from exporter.pb.moby.buildkit.v1 import control_pb2, control_pb2_grpc
from exporter.pb.moby.exporter.v1 import exporter_pb2
from exporter.progress.model import StatusSink
from exporter.remotes.session.content import ContentClient
from exporter.rpc.session.handling import Context, add_stream_method
from exporter.takeover.access import access_of_user
from exporter.takeover.backend import RegistryAccess
from exporter.takeover.build import BuildOptions, ProxiedBuild, ProxiedExport
from exporter.takeover.plan import PlannedExport
from exporter.takeover.progress import BuildProgress
from exporter.takeover.session import keep_result, run_instead

_SERVICE = "moby.exporter.v1.Exporter"


class OurExports:
    """Our exports in one build. Without any, everything here is a no-op.

    Args:
        channel: The channel to the daemon.
        build: The build; None without exports of ours.
        progress: The progress of our exports.
        access: The user's credentials for registries.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        build: ProxiedBuild | None,
        progress: BuildProgress,
        access: RegistryAccess,
    ) -> None:
        self._control = control_pb2_grpc.ControlStub(channel)
        self._content = ContentClient(channel)
        self._build = build
        self._progress = progress
        self._access = access

    @classmethod
    async def resolve(
        cls, channel: grpc.aio.Channel, options: SolveOptions, request: control_pb2.SolveRequest
    ) -> OurExports:
        """Resolve our exports before the build.

        Args:
            channel: The channel to the daemon.
            options: The options.
            request: The request for the options, with placeholders for our exports.

        Raises:
            InvalidArgumentError: an attribute is invalid.
            NotFoundError: a type does not exist.
        """
        plans = []
        epoch = epoch_from_build_args(options.frontend_attrs)
        for index, export in enumerate(options.exports):
            if not isinstance(export, OurExport):
                continue
            attrs = dict(export.attrs)
            if epoch is not None:
                attrs.setdefault(SOURCE_DATE_EPOCH, epoch)
            plan = PlannedExport(
                index, export.type, export.type, export.attrs, attrs, export.backend, export.place
            )
            plans.append((plan, await export.backend.resolve(index, export.type, attrs)))
        progress, access = BuildProgress(), access_of_user(options.registries)
        if not plans:
            return cls(channel, None, progress, access)
        original = control_pb2.SolveRequest()
        original.CopyFrom(request)
        choices = BuildOptions(strict=options.strict, source_dir=options.save_source)
        return cls(channel, ProxiedBuild(original, plans, choices, progress), progress, access)

    @property
    def handlers(self) -> dict[int, FileHandler]:
        """Handlers for `FileSendServicer` that run the exports."""
        return {index: partial(self._run, index) for index in self._exports}

    def daemon_index(self, index: int) -> int:
        """Map the index of an export to the daemon's index."""
        return index if self._build is None else self._build.daemon_index(index)

    def responses(self) -> dict[int, Mapping[str, str]]:
        """The responses of our exports that have run, by index."""
        return {
            index: export.exported.response
            for index, export in self._exports.items()
            if export.exported is not None
        }

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service through which the daemon describes the build's result."""
        if self._build is not None:
            add_stream_method(server, _SERVICE, "FindExporters", self._find_exporters)

    def change_request(self, request: control_pb2.SolveRequest) -> None:
        """Replace our exports by the daemon's substitutes."""
        if self._build is not None:
            self._build.change_request(request)

    def change_status(self, message: control_pb2.StatusResponse) -> None:
        """Show our exports instead of the daemon's substitutes."""
        if self._build is not None:
            self._build.rewrite_status(message)

    @asynccontextmanager
    async def reporting(self, sink: StatusSink) -> AsyncIterator[None]:
        """Forward the progress of our exports while the block runs."""
        with self._progress.watched() as queue:

            async def show() -> None:
                async for update in queue:
                    sink(update)

            task = asyncio.create_task(show(), name="progress of our exports")
            try:
                yield
            finally:
                self._progress.close()
                await task

    async def finish(self, solve: Callable[[], Awaitable[Mapping[str, str]]]) -> dict[str, str]:
        """Run the build, and publish our exports.

        Args:
            solve: Runs the build.

        Returns:
            The merged response of all exporters.

        Raises:
            ExporterError: the build, an export or publishing failed.
        """
        if self._build is None:
            return dict(await solve())
        try:
            return await self._build.finish(await solve())
        except Exception:
            failure = self._build.failure()
            if failure is not None:  # the daemon's message is only about the rejected tar
                raise failure from None
            raise
        finally:
            await self._build.discard()

    @property
    def _exports(self) -> Mapping[int, ProxiedExport]:
        return self._build.exports if self._build is not None else {}

    async def _find_exporters(self, _: object, context: Context) -> None:
        data = await context.read()
        if self._build is not None and isinstance(data, bytes):
            await keep_result(self._build, data, self._control)
            await context.write(exporter_pb2.FindExportersResponse().SerializeToString())

    async def _run(self, index: int, context: Context) -> None:
        await run_instead(self._exports[index], context, None, self._content, self._access)
