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
"""How long a daemon may take to answer for the first time."""


class BuildkitClient:
    """A client of buildkitd, or of a Docker engine's embedded BuildKit; see `exporter.client.dockerd`.

    Args:
        channel: Reaches the daemon. Not closed here.
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
            credentials: For TLS.
            server_name: The name that the server's certificate must have, if not the address's.
            timeout: Seconds until it is given up.

        Raises:
            InvalidArgumentError: that is no address.
            UnavailableError: there is no daemon.
        """
        async with open_channel(address, credentials, server_name=server_name) as channel:
            client = cls(channel)
            await client.check(address, timeout)
            yield client

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel, for what has no method here."""
        return self._channel

    @property
    def content(self) -> ContentClient:
        """The daemon's content store, which is read only; daemons have it since v0.12."""
        return ContentClient(self._channel)

    async def check(self, name: str, timeout: float) -> None:
        """Find out whether the daemon is there.

        Args:
            name: What to call it in errors.
            timeout: Seconds until it is given up.

        Raises:
            UnavailableError: it is not.
        """
        request = control_pb2.ListWorkersRequest()
        try:
            with rpc_errors(f"cannot reach a BuildKit daemon at {name} (is it running?)"):
                await self._control.ListWorkers(request, timeout=timeout, wait_for_ready=False)
        except TimeoutError as error:
            raise UnavailableError(f"{name} does not answer") from error

    async def workers(self, *filters: str) -> list[Worker]:
        """Name the workers, the default one first.

        Raises:
            ExporterError: the daemon does not answer, or refuses a filter.
        """
        with rpc_errors("listing workers"):
            response = await self._control.ListWorkers(control_pb2.ListWorkersRequest(filter=filters))
        return [worker_of(message) for message in response.record]

    async def info(self) -> Version:
        """Tell the daemon's version.

        Raises:
            ExporterError: the daemon does not answer, or is older than v0.11.
        """
        with rpc_errors("asking for the version"):
            response = await self._control.Info(control_pb2.InfoRequest())
        return version_of(response.buildkitVersion)

    async def disk_usage(self, *filters: str) -> dict[str, CacheRecord]:
        """Tell what is in the daemon's cache, by ID.

        Args:
            filters: ``inuse``, ``id==ID`` and others; a record must fit one of them.

        Raises:
            ExporterError: the daemon does not answer, or refuses a filter.
        """
        with rpc_errors("asking for the disk usage"):
            response = await self._control.DiskUsage(control_pb2.DiskUsageRequest(filter=filters))
        return cache_records(response.record)

    async def status(self, ref: str) -> AsyncIterator[StatusUpdate]:
        """Follow the progress of a build, from its start to its end, also of another client's.

        Raises:
            ExporterError: there is no such build.
        """
        with rpc_errors(f"following build {ref}"):
            async for message in self._control.Status(control_pb2.StatusRequest(Ref=ref)):
                yield status_update(message)

    async def history(
        self, *, ref: str = "", filters: Sequence[str] = (), limit: int = 0
    ) -> list[BuildRecord]:
        """Tell of the builds that the daemon remembers, those that run among them.

        Args:
            ref: Only this one.
            filters: containerd-style filters.
            limit: At most so many; 0 for all.

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
        """Build. Cancellation ends the build in the daemon, too.

        Args:
            options: What to build.
            sink: Is shown the progress.

        Raises:
            InvalidArgumentError: an option cannot be used.
            SolveError: the build has failed.
            ExporterError: an export of ours has failed, or the daemon is out of reach.
        """
        return await Solving(self._channel, self._dial, options, sink or _ignore, None).run()

    async def build(
        self, options: SolveOptions, build: BuildFunction, sink: StatusSink | None = None
    ) -> SolveResult:
        """Build with a frontend of ours, which may run the daemon's and look at what they give.

        Args:
            options: All but what to build: neither frontend nor definition.
            build: The frontend.
            sink: Is shown the progress.

        Raises:
            InvalidArgumentError: an option cannot be used.
            SolveError: the build has failed.
            ExporterError: an export of ours has failed, or the daemon is out of reach.
        """
        return await Solving(self._channel, self._dial, options, sink or _ignore, build).run()


def _ignore(update: StatusUpdate) -> None:
    """Show nothing."""
