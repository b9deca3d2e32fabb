"""Exports on a plugin server."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import grpc.aio

from exporter.content.protocol import ContentStore, Provider
from exporter.daemon.services.content import ContentServicer
from exporter.daemon.services.refs import RefServicer
from exporter.errors import UnavailableError
from exporter.exporters.base import ArtifactKind, Uses
from exporter.exporters.image_types import stores_image
from exporter.pb.buildkit.exporter.v1 import exporter_pb2, exporter_pb2_grpc
from exporter.progress.model import StatusSink
from exporter.remotes.messages.layers import compression_of, descriptor_of
from exporter.remotes.messages.results import build_message, late_attestations, refs_of, source_message
from exporter.remotes.session.content import EXPORT_STORE, REFS_STORE
from exporter.rpc.session.attach import attach
from exporter.rpc.status import rpc_errors
from exporter.source.types import BuildInfo, Source
from exporter.takeover.backend import Destination, Exported, RegistryAccess, Resolved
from exporter.takeover.plugin_calls import follow_call
from exporter.takeover.vertex import vertex_digest

_RESOLVE_SECONDS = 30.0
_RELEASE_SECONDS = 10.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Unpublished:
    """An export between ``Export`` and ``Finalize``."""

    session: AsyncExitStack
    vertex: str


class PluginBackend:
    """A client of ``ExporterService``, in the role of a daemon.

    Args:
        channel: The channel to the server, which is not closed here.
        address: The server's address, for messages.
        session_name: The name of sessions in the server's log.
    """

    def __init__(self, channel: grpc.aio.Channel, address: str, session_name: str) -> None:
        self._channel = channel
        self._session_name = session_name
        self._stub = exporter_pb2_grpc.ExporterServiceStub(channel)
        self._address = address
        self._artifacts: dict[str, ArtifactKind | None] = {}
        self._unpublished: dict[str, _Unpublished] = {}

    async def resolve(self, index: int, exporter_type: str, attrs: Mapping[str, str]) -> Resolved:
        """See `Backend.resolve`."""
        request = exporter_pb2.ResolveRequest(id=index, type=exporter_type, attrs=dict(attrs))
        with self._reaching():
            response = await self._stub.Resolve(request, timeout=_RESOLVE_SECONDS)
        compression = compression_of(response.compression, "compression")
        # The server's operator has chosen the store.
        is_stored = stores_image(exporter_type, attrs)
        place = f"the store of the plugin server at {self._address}" if is_stored else ""
        artifact = await self._artifact(exporter_type)
        return Resolved(response.name, compression, artifact, place, _uses(response))

    async def _artifact(self, exporter_type: str) -> ArtifactKind | None:
        if exporter_type not in self._artifacts:
            with self._reaching():
                listed = await self._stub.ListExporters(
                    exporter_pb2.ListExportersRequest(), timeout=_RESOLVE_SECONDS
                )
            self._artifacts = {info.type: _artifact_kind(info) for info in listed.exporters}
        return self._artifacts.get(exporter_type)

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
        access: RegistryAccess,
        sink: StatusSink,
    ) -> Exported:
        """See `Backend.export`.

        The server reads the source and gets the client's credentials through a session just for this export,
        which stays open until there is nothing left to publish.
        """
        session_id = uuid.uuid4().hex
        request = exporter_pb2.ExportRequest(
            id=index,
            type=exporter_type,
            attrs=dict(attrs),
            source=source_message(source),
            build=build_message(build, session_id),
            release_with_session=True,
        )
        vertex = vertex_digest(session_id, index)
        async with AsyncExitStack() as stack:
            session = self._session(session_id, source, destination, access)
            await stack.enter_async_context(session)
            message = await follow_call(self._stub.Export(request), sink, "the export", vertex)
            result = message.result
            if result.finalize_token:
                self._unpublished[result.finalize_token] = _Unpublished(stack.pop_all(), vertex)
        root = None
        if result.HasField("descriptor"):
            root = descriptor_of(result.descriptor, "result.descriptor")
        return Exported(dict(result.response), result.finalize_token, root)

    @asynccontextmanager
    async def _session(
        self,
        session_id: str,
        source: Source,
        destination: Destination,
        access: RegistryAccess,
    ) -> AsyncIterator[None]:
        """Give the server access to the source, the destination of files, and credentials."""
        servicer = RefServicer(refs_of(source), late_attestations(source))
        stores: dict[str, Provider | ContentStore] = {REFS_STORE: servicer.provider}
        if destination.layout is not None:
            stores[EXPORT_STORE] = destination.layout
        content = ContentServicer(stores=stores)
        attachables = (servicer.register, content.register, *destination.files, *access.services)
        async with attach(self._channel, attachables, session_id=session_id, name=self._session_name):
            yield

    async def finalize(self, token: str, sink: StatusSink) -> Mapping[str, str]:
        """See `Backend.finalize`."""
        request = exporter_pb2.FinalizeRequest(finalize_token=token)
        unpublished = self._unpublished.get(token)
        vertex = unpublished.vertex if unpublished is not None else ""
        message = await follow_call(self._stub.Finalize(request), sink, "publishing", vertex)
        await self._end_session(token)
        return dict(message.result.response)

    async def discard(self, token: str) -> None:
        """See `Backend.discard`. A server that cannot be reached releases it when it notices that."""
        if token not in self._unpublished:
            return
        try:
            request = exporter_pb2.ReleaseRequest(finalize_token=token)
            await self._stub.Release(request, timeout=_RELEASE_SECONDS)
        except grpc.aio.AioRpcError as error:
            logger.debug("cannot release an export of %s: %s", self._address, error)
        finally:
            await self._end_session(token)

    async def _end_session(self, token: str) -> None:
        unpublished = self._unpublished.pop(token, None)
        if unpublished is not None:
            await unpublished.session.aclose()

    def __str__(self) -> str:
        return self._address


def _artifact_kind(info: exporter_pb2.ExporterInfo) -> ArtifactKind | None:
    try:
        return ArtifactKind(info.artifact_kind)  # the numbers are the same
    except ValueError:
        return None


def _uses(response: exporter_pb2.ResolveResponse) -> Uses:
    used = {
        Uses.LAYERS: response.uses_layers,
        Uses.FILES: response.uses_files,
        Uses.INLINE_CACHE: response.uses_inline_cache,
    }
    return Uses(sum(flag.value for flag, is_used in used.items() if is_used))
