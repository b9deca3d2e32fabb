"""The client: `BuildkitClient`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from exporter.client.gateway import BuildFunction
from exporter.client.options import SolveOptions
from exporter.client.solving import SolveResult, Solving
from exporter.daemon.connection import DEFAULT_ADDRESS, open_channel
from exporter.daemon.records import (
    BuildRecord,
    CacheRecord,
    HistoryChange,
    Version,
    Worker,
    build_of,
    cache_records,
    version_of,
    worker_of,
)
from exporter.errors import UnavailableError
from exporter.pb.moby.buildkit.v1 import control_pb2, control_pb2_grpc
from exporter.progress.model import StatusSink, StatusUpdate
from exporter.remotes.messages.results import status_update
from exporter.remotes.session.content import ContentClient
from exporter.rpc.session.attach import SessionDialer
from exporter.rpc.status import rpc_errors

CONNECT_SECONDS = 5.0
"""The timeout for a daemon's first response."""


class BuildkitClient:
    """A client of buildkitd, or of a Docker engine's embedded BuildKit; see `exporter.client.dockerd`.

    Args:
        channel: The channel to the daemon, which is not closed here.
        dial: Opens a session's stream; through the channel if None.
    """

    def __init__(self, channel: grpc.aio.Channel, dial: SessionDialer | None = None) -> None:
        self._channel = channel
        self._control = control_pb2_grpc.ControlStub(channel)
        self._dial = dial

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        address: str = DEFAULT_ADDRESS,
        credentials: grpc.ChannelCredentials | None = None,
        *,
        server_name: str | None = None,
        timeout: float = CONNECT_SECONDS,
    ) -> AsyncIterator[BuildkitClient]:
        """Connect to a buildkitd.

        Args:
            address: ``unix:///PATH`` or ``tcp://HOST:PORT``.
            credentials: Credentials for TLS.
            server_name: The name that the server's certificate must have; the host of the address if None.
            timeout: The timeout in seconds.

        Raises:
            InvalidArgumentError: the address is malformed.
            UnavailableError: the daemon is not reachable.
        """
        async with open_channel(address, credentials, server_name=server_name) as channel:
            client = cls(channel)
            await client.check(address, timeout)
            yield client

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel, for calls without a method here."""
        return self._channel

    @property
    def content(self) -> ContentClient:
        """The daemon's content store (read-only, BuildKit v0.12 or newer)."""
        return ContentClient(self._channel)

    async def check(self, name: str, timeout: float) -> None:
        """Check that the daemon is reachable.

        Args:
            name: The daemon's name in errors.
            timeout: The timeout in seconds.

        Raises:
            UnavailableError: the daemon is not reachable.
        """
        request = control_pb2.ListWorkersRequest()
        try:
            with rpc_errors(f"cannot reach a BuildKit daemon at {name} (is it running?)"):
                await self._control.ListWorkers(request, timeout=timeout, wait_for_ready=False)
        except TimeoutError as error:
            raise UnavailableError(f"{name} does not answer") from error

    async def workers(self, *filters: str) -> list[Worker]:
        """List the workers, the default one first.

        Raises:
            ExporterError: the daemon does not answer, or rejects a filter.
        """
        with rpc_errors("listing workers"):
            response = await self._control.ListWorkers(control_pb2.ListWorkersRequest(filter=filters))
        return [worker_of(message) for message in response.record]

    async def info(self) -> Version:
        """Return the daemon's version.

        Raises:
            ExporterError: the daemon does not answer, or is older than v0.11.
        """
        with rpc_errors("asking for the version"):
            response = await self._control.Info(control_pb2.InfoRequest())
        return version_of(response.buildkitVersion)

    async def disk_usage(self, *filters: str) -> dict[str, CacheRecord]:
        """Return the records of the daemon's cache by ID.

        Args:
            filters: Filters such as ``inuse`` or ``id==ID``; a record must match one of them.

        Raises:
            ExporterError: the daemon does not answer, or rejects a filter.
        """
        with rpc_errors("asking for the disk usage"):
            response = await self._control.DiskUsage(control_pb2.DiskUsageRequest(filter=filters))
        return cache_records(response.record)

    async def status(self, ref: str) -> AsyncIterator[StatusUpdate]:
        """Follow the progress of a build from start to end. It may be another client's build.

        Raises:
            ExporterError: the build does not exist.
        """
        with rpc_errors(f"following build {ref}"):
            call = self._control.Status(control_pb2.StatusRequest(Ref=ref))
            try:
                async for message in call:
                    yield status_update(message)
            finally:
                call.cancel()

    async def history(
        self, *, ref: str = "", filters: Sequence[str] = (), limit: int = 0
    ) -> list[BuildRecord]:
        """List the builds in the daemon's history, including running ones.

        Args:
            ref: Only this build; all if empty.
            filters: Filters in containerd's syntax.
            limit: The maximum number of builds; 0 for no limit.

        Raises:
            ExporterError: the daemon does not answer, or is older than v0.11.
        """
        request = control_pb2.BuildHistoryRequest(Ref=ref, EarlyExit=True, Filter=filters, Limit=limit)
        builds: dict[str, BuildRecord] = {}
        with rpc_errors("asking for the history"):
            async for event in self._control.ListenBuildHistory(request):
                if event.type == control_pb2.DELETED:
                    builds.pop(event.record.Ref, None)
                else:
                    builds[event.record.Ref] = build_of(event.record)
        return list(builds.values())

    async def prune(
        self,
        *filters: str,
        all: bool = False,
        keep_duration: float = 0.0,
        reserved_space: int = 0,
        max_used_space: int = 0,
        min_free_space: int = 0,
    ) -> AsyncIterator[CacheRecord]:
        """Remove unused records from the daemon's cache, and iterate over those that were removed.

        Args:
            filters: Filters; a record must match one of them.
            all: Whether to also remove internal records, and those that images share.
            keep_duration: Keep records that were used within this time, in seconds.
            reserved_space: Keep this much in any case, in bytes.
            max_used_space: Keep at most this much, in bytes; 0 for no limit.
            min_free_space: Remove records until this much of the disk is free, in bytes.

        Raises:
            ExporterError: the daemon does not answer, or rejects a filter.
        """
        request = control_pb2.PruneRequest(
            filter=filters,
            all=all,
            keepDuration=int(keep_duration * 1e9),
            reservedSpace=reserved_space,
            maxUsedSpace=max_used_space,
            minFreeSpace=min_free_space,
        )
        with rpc_errors("pruning the cache"):
            call = self._control.Prune(request)
            try:
                async for message in call:
                    for record in cache_records((message,)).values():
                        yield record
            finally:
                call.cancel()

    async def watch_history(
        self, *filters: str, active_only: bool = False
    ) -> AsyncIterator[tuple[HistoryChange, BuildRecord]]:
        """Follow the daemon's history: first what is in it, then each change.

        Args:
            filters: Filters in containerd's syntax.
            active_only: Whether to follow running builds only.

        Raises:
            ExporterError: the daemon does not answer, or has no history.
        """
        request = control_pb2.BuildHistoryRequest(Filter=filters, ActiveOnly=active_only)
        with rpc_errors("following the history"):
            call = self._control.ListenBuildHistory(request)
            try:
                async for event in call:
                    yield HistoryChange(event.type), build_of(event.record)
            finally:
                call.cancel()

    async def update_history(self, ref: str, *, pinned: bool = False, delete: bool = False) -> None:
        """Change or delete the record of a build.

        Args:
            ref: The build's ID.
            pinned: Whether the record is kept until it is deleted.
            delete: Whether to delete it.

        Raises:
            ExporterError: there is no such build, or the daemon has no history.
        """
        request = control_pb2.UpdateBuildHistoryRequest(Ref=ref, Pinned=pinned, Delete=delete)
        with rpc_errors(f"changing the record of build {ref}"):
            await self._control.UpdateBuildHistory(request)

    async def solve(self, options: SolveOptions, sink: StatusSink | None = None) -> SolveResult:
        """Run a build. Cancellation also cancels it in the daemon.

        Args:
            options: What to build.
            sink: Receives the progress.

        Raises:
            InvalidArgumentError: an option is invalid.
            SolveError: the build failed.
            ExporterError: an export of ours failed, or the daemon is not reachable.
        """
        return await Solving(self._channel, self._dial, options, sink or _ignore, None).run()

    async def build(
        self, options: SolveOptions, build: BuildFunction, sink: StatusSink | None = None
    ) -> SolveResult:
        """Run a build with a frontend in this process, which may use the daemon's frontends.

        Args:
            options: The options, without a frontend or definition.
            build: The frontend.
            sink: Receives the progress.

        Raises:
            InvalidArgumentError: an option is invalid.
            SolveError: the build failed.
            ExporterError: an export of ours failed, or the daemon is not reachable.
        """
        return await Solving(self._channel, self._dial, options, sink or _ignore, build).run()


def _ignore(update: StatusUpdate) -> None:
    """Discard an update."""
