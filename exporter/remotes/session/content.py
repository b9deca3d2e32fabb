"""A client for containerd's content API: the stores of a session, of containerd, of buildkitd."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import grpc.aio
from google.protobuf.field_mask_pb2 import FieldMask

from exporter.content.protocol import BlobInfo, BlobWriter
from exporter.content.threads import run_in_thread
from exporter.content.verify import Verifier
from exporter.errors import DataLossError, UnavailableError
from exporter.image import Descriptor
from exporter.pb.containerd.services.content.v1 import content_pb2, content_pb2_grpc
from exporter.rpc.calls import StreamCall
from exporter.rpc.status import from_rpc_error, rpc_errors

STORE_ID = "buildkit-attachable-store-id"
"""Metadata that selects one of the stores of a session."""

REFS_STORE = "refs"
"""The store for the blobs of refs that ``RefService`` or a request has named."""

EXPORT_STORE = "export"
"""The store that buildctl serves for ``tar=false``."""

CHUNK_SIZE = 1 << 20
"""Maximum bytes per write request. Each request is answered before the next one is sent."""

ABORT_SECONDS = 5.0
"""The timeout for discarding an unfinished write."""

CallMetadata = Sequence[tuple[str, str]]


class ContentClient:
    """Blobs behind containerd's content API; see `exporter.content.protocol.ContentStore`.

    Args:
        channel: A channel to ``containerd.services.content.v1.Content``; the caller closes it.
        metadata: Metadata for every call: `STORE_ID` selects a session's store, ``containerd-namespace`` a
            namespace.
    """

    def __init__(self, channel: grpc.aio.Channel, *, metadata: CallMetadata = ()) -> None:
        self._stub = content_pb2_grpc.ContentStub(channel)
        self._metadata = tuple(metadata)

    async def info(self, digest: str) -> BlobInfo:
        """See `Provider.info`.

        Raises:
            NotFoundError: there is no such blob.
            UnavailableError: the peer is gone.
        """
        with rpc_errors(f"blob {digest}"):
            request = content_pb2.InfoRequest(digest=digest)
            response = await self._stub.Info(request, metadata=self._metadata)
        return BlobInfo(digest, response.info.size)

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See `Provider.read`.

        Raises:
            NotFoundError: there is no such blob.
            InvalidArgumentError: the offset is after its end.
            UnavailableError: the peer is gone.
        """
        if length == 0:  # in the message, 0 means everything
            return
        request = content_pb2.ReadContentRequest(digest=digest, offset=offset, size=length or 0)
        with rpc_errors(f"blob {digest}"):
            call = self._stub.Read(request, metadata=self._metadata)
            try:
                async for response in call:
                    yield response.data
            finally:
                call.cancel()

    @asynccontextmanager
    async def ingest(
        self, expected: Descriptor | None = None, *, labels: Mapping[str, str] | None = None
    ) -> AsyncIterator[BlobWriter]:
        """See `ContentStore.ingest`.

        A write that was interrupted with the connection is resumed, if the store has kept it. If the block
        fails, the store discards the write.

        Raises:
            UnavailableError: the peer is gone.
        """
        writer = _Writer(self._stub, self._metadata, expected, labels or {})
        try:
            await writer.open()
            yield writer
        finally:
            await writer.close()

    async def add_labels(self, digest: str, labels: Mapping[str, str]) -> None:
        """See `LabelledStore.add_labels`. A no-op if the store does not support labels.

        Raises:
            UnavailableError: the peer is gone.
        """
        await _add_labels(self._stub, self._metadata, digest, labels)


class _Writer:
    """A write of the content API: each request is answered by one response."""

    def __init__(
        self,
        stub: content_pb2_grpc.ContentStub,
        metadata: tuple[tuple[str, str], ...],
        expected: Descriptor | None,
        labels: Mapping[str, str],
    ) -> None:
        self._stub = stub
        self._metadata = metadata
        self._expected = expected
        self._labels = dict(labels)
        self._what = f"blob {expected.digest}" if expected is not None else "new blob"
        self._verifier = Verifier() if expected is None else None
        self._ref = ""
        self._call: StreamCall | None = None
        self._stored = 0  # bytes that the store has
        self._skip = 0  # bytes to skip because the store already had them
        self._pending = bytearray()
        self._is_done = False  # the store has the blob

    async def open(self) -> None:
        """Begin the write, or find out that the blob already exists."""
        if self._expected is None:
            await self._begin(f"buildkit-exporter-{uuid.uuid4()}")
            return
        # Use a ref that a later attempt will find again, unless another writer has locked it.
        name = f"buildkit-exporter-{self._expected.digest}"
        try:
            await self._begin(name, total=self._expected.size, expected=self._expected.digest)
        except UnavailableError:
            name = f"{name}-{uuid.uuid4()}"
            await self._begin(name, total=self._expected.size, expected=self._expected.digest)

    async def write(self, data: bytes) -> None:
        """See `BlobWriter.write`."""
        if self._verifier is not None:
            await run_in_thread(self._verifier.update, data)
        if self._is_done:
            return
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self._pending += memoryview(data)[skipped:]
        while len(self._pending) > CHUNK_SIZE and not self._is_done:
            piece = bytes(memoryview(self._pending)[:CHUNK_SIZE])
            del self._pending[:CHUNK_SIZE]
            await self._send(content_pb2.WRITE, piece)

    async def commit(self) -> BlobInfo:
        """See `BlobWriter.commit`."""
        info = self._promise()
        if not self._is_done:
            piece = bytes(self._pending)
            await self._send(
                content_pb2.COMMIT, piece, total=info.size, expected=info.digest, labels=self._labels
            )
            self._is_done = True
        return info

    async def close(self) -> None:
        """End the call, and tell the store to discard what is not committed."""
        if self._call is None:
            return
        self._call.cancel()
        if not self._is_done:
            with suppress(grpc.aio.AioRpcError, grpc.aio.UsageError):
                request = content_pb2.AbortRequest(ref=self._ref)
                await self._stub.Abort(request, metadata=self._metadata, timeout=ABORT_SECONDS)

    def _promise(self) -> BlobInfo:
        if self._verifier is not None:
            return self._verifier.finish()
        assert self._expected is not None
        return BlobInfo(self._expected.digest, self._expected.size)

    async def _begin(self, ref: str, **fields: Any) -> None:
        self._ref = ref
        with rpc_errors(self._what):
            self._call = StreamCall(self._stub.Write(metadata=self._metadata))
        await self._send(content_pb2.STAT, ref=ref, **fields)
        self._skip = self._stored

    async def _send(
        self, action: content_pb2.WriteAction.ValueType, data: bytes = b"", **fields: Any
    ) -> None:
        request = content_pb2.WriteContentRequest(action=action, offset=self._stored, data=data, **fields)
        try:
            response = await self._step(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.ALREADY_EXISTS:
                await self._found()
                return
            failure = from_rpc_error(error, self._what)
            if action == content_pb2.COMMIT and error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                failure = DataLossError(failure.message)
            raise failure from error
        if action != content_pb2.STAT and response.offset != self._stored + len(data):
            raise DataLossError(
                f"{self._what}: the store has {response.offset} bytes after {self._stored + len(data)}"
            )
        self._stored = response.offset

    async def _step(self, request: content_pb2.WriteContentRequest) -> content_pb2.WriteContentResponse:
        assert self._call is not None
        await self._call.send(request)  # if the call has ended, reading it tells why
        response = await self._call.read()
        if not isinstance(response, content_pb2.WriteContentResponse):
            raise UnavailableError(f"{self._what}: the store ended the write")
        return response

    async def _found(self) -> None:
        """Handle a blob that already exists, perhaps from another writer: add our labels to it."""
        self._is_done = True
        if self._labels and self._expected is not None:
            await _add_labels(self._stub, self._metadata, self._expected.digest, self._labels)


async def _add_labels(
    stub: content_pb2_grpc.ContentStub, metadata: CallMetadata, digest: str, labels: Mapping[str, str]
) -> None:
    try:
        request = content_pb2.InfoRequest(digest=digest)
        found = (await stub.Info(request, metadata=metadata)).info.labels
        missing = {key: value for key, value in labels.items() if key not in found}
        if missing:
            mask = FieldMask(paths=[f"labels.{key}" for key in missing])
            info = content_pb2.Info(digest=digest, labels=missing)
            await stub.Update(content_pb2.UpdateRequest(info=info, update_mask=mask), metadata=metadata)
    except grpc.aio.AioRpcError as error:
        if error.code() not in _WITHOUT_LABELS:
            raise from_rpc_error(error, f"labels of blob {digest}") from error


# The errors of stores without labels: containerd's plain directory store, and ours.
_WITHOUT_LABELS = {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNIMPLEMENTED}
