"""Serving refs to an exporter (``buildkit.exporter.v1.RefService``)."""

# ruff: noqa: N802 (methods are named as in the .proto)

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio

from exporter.content.overlay import MultiProvider
from exporter.content.protocol import Provider
from exporter.daemon.fsutil.send import send_directory
from exporter.errors import NotFoundError
from exporter.pb.buildkit.exporter.v1 import exporter_pb2, exporter_pb2_grpc
from exporter.remotes.messages.layers import compression_of, descriptor_message, layer_message
from exporter.remotes.session.files import REF_ID
from exporter.rpc.session.handling import HandlerStream
from exporter.source.files import FilesRef
from exporter.source.types import Attestation, Ref

Context = grpc.aio.ServicerContext[Any, Any]


class RefServicer(exporter_pb2_grpc.RefServiceServicer):
    """Serves a set of refs. Needs a server with `exporter.rpc.status.StatusInterceptor`.

    Args:
        refs: The refs by ID.
        attestations: Those whose content can be requested, by the ID of their content.
    """

    def __init__(
        self, refs: Mapping[str, Ref], attestations: Mapping[str, Attestation] | None = None
    ) -> None:
        self._refs = refs
        self._attestations = attestations or {}
        self._blobs = MultiProvider()

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server. The messages of ``ReadFiles`` are passed as bytes."""
        registration = _Registration(
            server, {"ReadFiles": grpc.stream_stream_rpc_method_handler(self._read_files)}
        )
        exporter_pb2_grpc.add_RefServiceServicer_to_server(self, cast(grpc.aio.Server, registration))

    @property
    def provider(self) -> Provider:
        """The blobs that `GetRemote` has returned so far. ``Content`` serves them as `REFS_STORE`."""
        return self._blobs

    async def GetLayerChain(
        self, request: exporter_pb2.GetLayerChainRequest, context: Context
    ) -> exporter_pb2.GetLayerChainResponse:
        """Return the layers' metadata."""
        chain = await self._find(request.ref_id).layer_chain()
        return exporter_pb2.GetLayerChainResponse(layers=[layer_message(layer) for layer in chain])

    async def GetRemote(
        self, request: exporter_pb2.GetRemoteRequest, context: Context
    ) -> exporter_pb2.GetRemoteResponse:
        """Return the layers' descriptors."""
        wanted = None
        if request.HasField("compression"):
            wanted = compression_of(request.compression, "compression")
        remote = await self._find(request.ref_id).remote(wanted)
        for descriptor in remote.descriptors:
            self._blobs.add(descriptor.digest, remote.provider)
        return exporter_pb2.GetRemoteResponse(descriptors=[descriptor_message(d) for d in remote.descriptors])

    async def GetAttestation(
        self, request: exporter_pb2.GetAttestationRequest, context: Context
    ) -> exporter_pb2.GetAttestationResponse:
        """Answer with the content of an attestation."""
        attestation = self._attestations.get(request.content_id)
        content = None if attestation is None else await attestation.read_content()
        if content is None:
            raise NotFoundError(f"attestation {request.content_id!r} not found", field="content_id")
        return exporter_pb2.GetAttestationResponse(content=content)

    async def ReadFiles(  # type: ignore[override]
        self, request_iterator: Any, context: Context
    ) -> None:
        """See `_read_files`, which `register` registers instead."""
        raise NotImplementedError

    async def _read_files(self, request_iterator: object, context: Any) -> None:
        """Send the files of a ref. A ref that only has layers has no such method."""
        metadata = dict(context.invocation_metadata() or ())
        ref = self._find(bytes(metadata.get(REF_ID, b"")).decode("utf-8", "surrogateescape"))
        if not isinstance(ref, FilesRef):
            raise NotImplementedError(f"ref {ref.id} only has layers")
        async with ref.files(Path(tempfile.gettempdir())) as tree, HandlerStream(context) as stream:
            if tree is None:
                raise NotImplementedError(f"ref {ref.id} only has layers")
            await tree.fetch(tree.entries)
            await send_directory(stream, tree.entries, _ignore)

    def _find(self, ref_id: str) -> Ref:
        try:
            return self._refs[ref_id]
        except KeyError:
            raise NotFoundError(f"ref {ref_id!r} not found", field="ref_id") from None


class _Registration:
    """A server's methods to register a service, with some handlers of the service replaced."""

    def __init__(
        self, server: grpc.aio.Server, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        self._server = server
        self._handlers = handlers

    def add_generic_rpc_handlers(self, generic: Iterable[grpc.GenericRpcHandler]) -> None:
        """Do nothing: the next call has all that is needed."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Register the service."""
        replaced = {**handlers, **self._handlers}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, replaced),))
        self._server.add_registered_method_handlers(service, replaced)


def _ignore(size: int) -> None:
    """Ignore the number of bytes sent."""
