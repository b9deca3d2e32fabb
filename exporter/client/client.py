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
            async for message in self._control.Status(control_pb2.StatusRequest(Ref=ref)):
                yield status_update(message)

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
