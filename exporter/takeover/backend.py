"""Servers of ``ExporterService``, of which the proxy is the client in the daemon's place."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import grpc.aio

from exporter.content.protocol import ContentStore
from exporter.daemon.services.content import ContentServicer
from exporter.daemon.services.refs import RefServicer
from exporter.errors import UnavailableError
from exporter.image import CompressionConfig
from exporter.pb.buildkit.exporter.v1 import exporter_pb2, exporter_pb2_grpc
from exporter.progress.model import StatusSink
from exporter.remotes.messages.layers import compression_of
from exporter.remotes.messages.results import build_message, refs_of, source_message
from exporter.remotes.session.content import EXPORT_STORE
from exporter.rpc.session.attach import Attachable, attach, serving
from exporter.rpc.session.manager import Session, SessionManager
from exporter.rpc.status import rpc_errors
from exporter.source.types import BuildInfo, Ref, Source
from exporter.takeover.plugin_calls import follow_call

_SESSION_NAME = "buildkit-exporter proxy"
_RESOLVE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Resolved:
    """An exporter that can be used in this way.

    Attributes:
        name: Of the export's vertex.
        compression: How layers are wanted.
        artifact: What it makes.
    """

    name: str
    compression: CompressionConfig
    artifact: exporter_pb2.ArtifactKind.ValueType = exporter_pb2.ARTIFACT_KIND_UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export gave. `token` is empty if there is nothing to finalize."""

    response: Mapping[str, str]
    token: str = ""


@dataclass(frozen=True, slots=True)
class ReachableClient:
    """A client to which there is a channel.

    Attributes:
        channel: Reaches its services.
        methods: What it announced, in lower case.
    """

    channel: grpc.aio.Channel
    methods: frozenset[str]


@dataclass(frozen=True, slots=True)
class Destination:
    """What the exporter's server finds in the session for files that go to the client.

    Attributes:
        files: Services that take them.
        layout: The store for images that go to the client's directory; None if it has none.
        client: The client itself, of whose services those are; None if they are ours.
    """

    files: Sequence[Attachable] = ()
    layout: ContentStore | None = None
    client: ReachableClient | None = None


class Backend:
    """A server of ``ExporterService``.

    Args:
        channel: Reaches it. Not closed here.
        address: For messages.
    """

    def __init__(self, channel: grpc.aio.Channel, address: str) -> None:
        self._channel = channel
        self._stub = exporter_pb2_grpc.ExporterServiceStub(channel)
        self._address = address
        self._artifacts: dict[str, exporter_pb2.ArtifactKind.ValueType] = {}

    async def resolve(self, index: int, exporter_type: str, attrs: Mapping[str, str]) -> Resolved:
        """Ask whether an exporter can be used in this way; before the build, since it may take long.

        Raises:
            InvalidArgumentError: an attribute cannot be used.
            NotFoundError: there is no such type.
            UnavailableError: the server is out of reach.
        """
        request = exporter_pb2.ResolveRequest(id=index, type=exporter_type, attrs=dict(attrs))
        with self._reaching():
            response = await self._stub.Resolve(request, timeout=_RESOLVE_SECONDS)
        compression = compression_of(response.compression, "compression")
        return Resolved(response.name, compression, await self._artifact(exporter_type))

    async def _artifact(self, exporter_type: str) -> exporter_pb2.ArtifactKind.ValueType:
        if exporter_type not in self._artifacts:
            with self._reaching():
                listed = await self._stub.ListExporters(
                    exporter_pb2.ListExportersRequest(), timeout=_RESOLVE_SECONDS
                )
            self._artifacts = {info.type: info.artifact_kind for info in listed.exporters}
        return self._artifacts.get(exporter_type, exporter_pb2.ARTIFACT_KIND_UNSPECIFIED)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            with rpc_errors():
                yield
        except UnavailableError as error:
            text = f"cannot reach the plugin server at {self._address}: {error.message}"
            raise UnavailableError(text) from error

    async def export(
        self,
        index: int,
        exporter_type: str,
        attrs: Mapping[str, str],
        *,
        source: Source,
        build: BuildInfo,
        destination: Destination,
        sink: StatusSink,
    ) -> Exported:
        """Export a build result. The server reads it through a session that lasts as long as the export.

        Args:
            index: Of the exporter among all of the build.
            exporter_type: Its type.
            attrs: Its attributes.
            source: The result.
            build: Facts about it; its session does not count.
            destination: Where files go.
            sink: Is shown the progress, under the vertex that `vertex_digest` tells.

        Raises:
            ExporterError: the export failed.
        """
        session_id = uuid.uuid4().hex
        request = exporter_pb2.ExportRequest(
            id=index,
            type=exporter_type,
            attrs=dict(attrs),
            source=source_message(source),
            build=build_message(build, session_id),
        )
        async with self._session(session_id, refs_of(source), destination):
            message = await follow_call(self._stub.Export(request), sink, "the export")
        return Exported(dict(message.result.response), message.result.finalize_token)

    @asynccontextmanager
    async def _session(
        self, session_id: str, refs: Mapping[str, Ref], destination: Destination
    ) -> AsyncIterator[None]:
        """Let the server reach what it exports, and those that it sends files to."""
        servicer = RefServicer(refs)
        stores = {} if destination.layout is None else {EXPORT_STORE: destination.layout}
        content = ContentServicer(servicer.provider, stores)
        attachables = (servicer.register, content.register, *destination.files)
        async with attach(self._channel, attachables, session_id=session_id, name=_SESSION_NAME):
            yield

    async def finalize(self, token: str, sink: StatusSink) -> Mapping[str, str]:
        """Publish what an export has made; returns response keys to add.

        Raises:
            ExporterError: publishing failed; it can be tried again.
        """
        request = exporter_pb2.FinalizeRequest(finalize_token=token)
        message = await follow_call(self._stub.Finalize(request), sink, "publishing")
        return dict(message.result.response)

    async def discard(self, token: str) -> None:
        """Give up what an export has made: it will not be published.

        ``ExporterService`` has no call for that: a server elsewhere releases it when the token expires.
        """

    def __str__(self) -> str:
        return self._address


class LocalBackend(Backend):
    """A server in this process. What it exports and sends takes no way through a session.

    Args:
        channel: Reaches it. Not closed here.
        address: For messages.
        sessions: Where it finds its clients.
        discard: Releases what a finalize token holds.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        address: str,
        sessions: SessionManager,
        discard: Callable[[str], Awaitable[None]],
    ) -> None:
        super().__init__(channel, address)
        self._sessions = sessions
        self._discard = discard

    @asynccontextmanager
    async def _session(
        self, session_id: str, refs: Mapping[str, Ref], destination: Destination
    ) -> AsyncIterator[None]:
        async with _reachable(destination) as client:
            session = Session(
                id=session_id,
                name=_SESSION_NAME,
                shared_key="",
                channel=client.channel,
                methods=client.methods,
                refs=refs,
            )
            with self._sessions.joined(session):
                yield

    async def discard(self, token: str) -> None:
        """See `Backend.discard`."""
        await self._discard(token)


@asynccontextmanager
async def _reachable(destination: Destination) -> AsyncIterator[ReachableClient]:
    if destination.client is not None:
        yield destination.client
        return
    attachables = list(destination.files)
    if destination.layout is not None:
        attachables.append(ContentServicer(stores={EXPORT_STORE: destination.layout}).register)
    async with serving(attachables) as (channel, methods):
        yield ReachableClient(channel, frozenset(method.lower() for method in methods))
