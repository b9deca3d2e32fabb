"""Serving content stores (``containerd.services.content.v1.Content``; upstream: ``session/content``)."""

# ruff: noqa: N802 (methods are named as in the .proto)

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from inspect import iscoroutinefunction
from typing import Any, Protocol, TypeGuard

import grpc.aio
from google.protobuf import empty_pb2

from exporter.content.copy import closing_stream
from exporter.content.protocol import BlobInfo, ContentStore, Provider
from exporter.content.verify import split_digest
from exporter.daemon.services.content_write import OutOfRangeError, Write
from exporter.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from exporter.pb.containerd.services.content.v1 import content_pb2, content_pb2_grpc
from exporter.remotes.session.content import STORE_ID

CHUNK_SIZE = 1 << 20
"""The maximum size of a blob's chunk in one message, as in containerd."""

LIST_SIZE = 100
"""The number of blobs described in one message, as in containerd."""

Context = grpc.aio.ServicerContext[Any, Any]


class ContentServicer(content_pb2_grpc.ContentServicer):
    """Serves content stores. Needs a server with `exporter.rpc.status.StatusInterceptor`.

    An unfinished write is discarded when its call ends for any reason. The next attempt starts at 0.

    Args:
        default: The store for calls without metadata, for reading.
        stores: The stores by the ID in the metadata `exporter.remotes.session.content.STORE_ID`. Content
            stores are writable.
    """

    def __init__(
        self, default: Provider | None = None, stores: Mapping[str, Provider | ContentStore] | None = None
    ) -> None:
        self._default = default
        self._stores = dict(stores or {})
        self._writes: dict[tuple[str, str], Write] = {}

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server."""
        content_pb2_grpc.add_ContentServicer_to_server(self, server)

    async def Info(self, request: content_pb2.InfoRequest, context: Context) -> content_pb2.InfoResponse:
        """Describe a blob."""
        split_digest(request.digest)
        info = await self._provider(context).info(request.digest)
        return content_pb2.InfoResponse(info=content_pb2.Info(digest=info.digest, size=info.size))

    async def List(
        self, request: content_pb2.ListContentRequest, context: Context
    ) -> AsyncIterator[content_pb2.ListContentResponse]:
        """Describe all blobs, if the store can list them (`OCILayout.blobs`)."""
        _refuse_filters(request.filters)
        store = self._provider(context)
        if not _is_listable(store):
            raise NotImplementedError("this store cannot list its blobs")
        infos = [content_pb2.Info(digest=blob.digest, size=blob.size) for blob in await store.blobs()]
        for start in range(0, len(infos), LIST_SIZE):
            yield content_pb2.ListContentResponse(info=infos[start : start + LIST_SIZE])

    async def Read(
        self, request: content_pb2.ReadContentRequest, context: Context
    ) -> AsyncIterator[content_pb2.ReadContentResponse]:
        """Stream a blob or a part of it."""
        split_digest(request.digest)
        provider = self._provider(context)
        info = await provider.info(request.digest)
        offset = max(request.offset, 0)
        if offset > info.size:
            raise OutOfRangeError(f"blob {request.digest} has {info.size} bytes, none at {offset}")
        length = min(request.size, info.size - offset) if request.size > 0 else info.size - offset
        sent = 0
        async with closing_stream(provider.read(request.digest, offset=offset, length=length)) as pieces:
            async for data in pieces:
                for start in range(0, len(data), CHUNK_SIZE):
                    piece = data[start : start + CHUNK_SIZE]
                    yield content_pb2.ReadContentResponse(offset=sent, data=piece)
                    sent += len(piece)

    async def Write(
        self, request_iterator: AsyncIterator[content_pb2.WriteContentRequest], context: Context
    ) -> AsyncIterator[content_pb2.WriteContentResponse]:
        """Write a blob."""
        store_id, store = self._choose(context)
        if not store_id or not _is_writable(store):
            raise PermissionDeniedError("blobs cannot be written here")
        first = await anext(request_iterator, None)
        if first is None:
            return
        if not first.ref:
            raise InvalidArgumentError("the first request of a write must name it", field="ref")
        key = store_id, first.ref
        if key in self._writes:
            raise UnavailableError(f"write {first.ref!r} is locked by another call")
        write = self._writes[key] = Write(store, first.ref)
        try:
            yield await write.step(first)
            if first.action == content_pb2.COMMIT:
                return
            async for request in request_iterator:
                yield await write.step(request)
                if request.action == content_pb2.COMMIT:
                    return
        finally:
            del self._writes[key]
            await write.close()

    async def Status(
        self, request: content_pb2.StatusRequest, context: Context
    ) -> content_pb2.StatusResponse:
        """Describe an unfinished write."""
        store_id, _ = self._choose(context)
        write = self._writes.get((store_id, request.ref))
        if write is None:
            raise NotFoundError(f"write {request.ref!r} not found", field="ref")
        return content_pb2.StatusResponse(status=write.status())

    async def ListStatuses(
        self, request: content_pb2.ListStatusesRequest, context: Context
    ) -> content_pb2.ListStatusesResponse:
        """Describe all unfinished writes."""
        _refuse_filters(request.filters)
        chosen, _ = self._choose(context)
        statuses = [write.status() for (store_id, _), write in self._writes.items() if store_id == chosen]
        return content_pb2.ListStatusesResponse(statuses=statuses)

    async def Abort(self, request: content_pb2.AbortRequest, context: Context) -> empty_pb2.Empty:
        """Discard an unfinished write. A no-op if there is none, since it was discarded with its call."""
        store_id, _ = self._choose(context)
        write = self._writes.get((store_id, request.ref))
        if write is not None:
            write.abort()
        return empty_pb2.Empty()

    async def Update(
        self, request: content_pb2.UpdateRequest, context: Context
    ) -> content_pb2.UpdateResponse:
        """Reject: the stores do not have labels. containerd's plain directory store gives the same answer."""
        await self._provider(context).info(request.info.digest)
        raise FailedPreconditionError("blobs have no labels here")

    async def Delete(self, request: content_pb2.DeleteContentRequest, context: Context) -> empty_pb2.Empty:
        """Reject: a session's stores are append-only."""
        raise NotImplementedError("blobs cannot be deleted here")

    def _provider(self, context: Context) -> Provider:
        return self._choose(context)[1]

    def _choose(self, context: Context) -> tuple[str, Provider]:
        for key, value in context.invocation_metadata() or ():
            if key == STORE_ID:
                store_id = str(value)
                if store_id not in self._stores:
                    raise NotFoundError(f"unknown store {store_id}")
                return store_id, self._stores[store_id]
        if self._default is None:
            raise InvalidArgumentError(f'request lacks metadata "{STORE_ID}"')
        return "", self._default


def _is_writable(store: Provider) -> TypeGuard[ContentStore]:
    return hasattr(store, "ingest")


class _Listable(Protocol):
    async def blobs(self) -> Sequence[BlobInfo]: ...


def _is_listable(store: object) -> TypeGuard[_Listable]:
    return iscoroutinefunction(getattr(store, "blobs", None))


def _refuse_filters(filters: object) -> None:
    if filters:
        raise InvalidArgumentError("filters are not supported", field="filters")
