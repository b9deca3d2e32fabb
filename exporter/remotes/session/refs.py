"""Refs whose layers are requested from their owner, through a session or an address (``RefService``)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio

from exporter.image import CompressionConfig
from exporter.pb.buildkit.exporter.v1 import exporter_pb2, exporter_pb2_grpc
from exporter.remotes.messages.layers import compression_message, descriptor_of, layer_of
from exporter.remotes.session.content import REFS_STORE, STORE_ID, ContentClient
from exporter.remotes.session.files import receiving_files
from exporter.rpc.status import rpc_errors
from exporter.source.files import RefTree
from exporter.source.types import LayerChain, Remote

GET_REMOTE_METHOD = "/buildkit.exporter.v1.RefService/GetRemote"
GET_ATTESTATION_METHOD = "/buildkit.exporter.v1.RefService/GetAttestation"


def refs_content(channel: grpc.aio.Channel) -> ContentClient:
    """The blobs of a peer's refs."""
    return ContentClient(channel, metadata=((STORE_ID, REFS_STORE),))


async def get_attestation(content_id: str, channel: grpc.aio.Channel) -> bytes:
    """Get the predicate of an attestation.

    Args:
        content_id: The peer's ID for it.
        channel: A channel to the peer's ``RefService``.

    Raises:
        NotFoundError: the peer does not know it, or no longer does.
        UnavailableError: the peer is gone.
    """
    with rpc_errors(f"cannot get the content of attestation {content_id}"):
        request = exporter_pb2.GetAttestationRequest(content_id=content_id)
        response = await exporter_pb2_grpc.RefServiceStub(channel).GetAttestation(request)
    return response.content


class SessionRef:
    """A ref of the peer; see `exporter.source.types.Ref`.

    Args:
        ref_id: The peer's ID for the ref.
        channel: A channel to the owner's ``RefService`` and ``Content``; the caller closes it.
        offers_files: Whether the owner may have ``ReadFiles``.
    """

    def __init__(self, ref_id: str, channel: grpc.aio.Channel, *, offers_files: bool = True) -> None:
        self._id = ref_id
        self._channel = channel
        self._offers_files = offers_files
        self._refs = exporter_pb2_grpc.RefServiceStub(channel)
        self._content = refs_content(channel)

    @property
    def id(self) -> str:
        """See `Ref.id`."""
        return self._id

    async def remote(self, compression: CompressionConfig | None = None) -> Remote:
        """See `Ref.remote`.

        Raises:
            NotFoundError: the owner does not know the ref, or no longer does.
            InvalidArgumentError: the owner's response contains a malformed descriptor.
            UnavailableError: the owner is gone.
        """
        wanted = compression_message(compression) if compression is not None else None
        with rpc_errors(f"cannot get the layers of ref {self._id}"):
            request = exporter_pb2.GetRemoteRequest(ref_id=self._id, compression=wanted)
            response = await self._refs.GetRemote(request)
        path = f"GetRemote({self._id}).descriptors"
        descriptors = tuple(descriptor_of(d, f"{path}[{i}]") for i, d in enumerate(response.descriptors))
        return Remote(descriptors, self._content)

    @asynccontextmanager
    async def files(self, scratch: Path) -> AsyncIterator[RefTree | None]:
        """See `FilesRef.files`.

        Raises:
            NotFoundError: the owner does not know the ref, or no longer does.
            FailedPreconditionError: the owner cannot read the files.
            UnavailableError: the owner is gone.
        """
        if not self._offers_files:
            yield None
            return
        async with receiving_files(self._id, self._channel, scratch) as tree:
            yield tree

    async def layer_chain(self) -> LayerChain:
        """See `Ref.layer_chain`.

        Raises:
            NotFoundError: the owner does not know the ref, or no longer does.
            InvalidArgumentError: the owner's response contains a malformed time.
            UnavailableError: the owner is gone.
        """
        with rpc_errors(f"cannot get the layer chain of ref {self._id}"):
            response = await self._refs.GetLayerChain(exporter_pb2.GetLayerChainRequest(ref_id=self._id))
        path = f"GetLayerChain({self._id}).layers"
        return tuple(layer_of(layer, f"{path}[{i}]") for i, layer in enumerate(response.layers))
