"""One write of containerd's content API, into a content store of ours."""

from __future__ import annotations

import hashlib
import time
from contextlib import AsyncExitStack

from google.protobuf.timestamp_pb2 import Timestamp

from exporter.content.protocol import BlobInfo, BlobWriter, ContentStore
from exporter.content.threads import run_in_thread
from exporter.content.verify import split_digest
from exporter.errors import Code, DataLossError, ExporterError, FailedPreconditionError, NotFoundError
from exporter.image import Descriptor
from exporter.pb.containerd.services.content.v1 import content_pb2

_MEDIA_TYPE = "application/octet-stream"
_DEFAULT_ALGORITHM = "sha256"


class AlreadyExistsError(ExporterError):
    """The blob already exists."""

    code = Code.ALREADY_EXISTS


class OutOfRangeError(ExporterError):
    """The offset is not the end of the blob."""

    code = Code.OUT_OF_RANGE


class Write:
    """A write, from its first request to its commit.

    Our writers need the expected size and digest at the start, which is when containerd's clients send them.
    If a client sends them later, the bytes are hashed here, so that an unexpected blob does not get into the
    store. Labels are dropped, since our stores do not have them.

    Args:
        store: The store.
        ref: The write's name.
    """

    def __init__(self, store: ContentStore, ref: str) -> None:
        self._store = store
        self._ref = ref
        self._stack = AsyncExitStack()
        self._writer: BlobWriter | None = None
        self._promised: BlobInfo | None = None  # the blob for which the writer was opened
        self._hash: hashlib._Hash | None = None  # if it was opened for anything
        self._offset = 0
        self._total = 0
        self._expected = ""
        self._started_ns = self._updated_ns = time.time_ns()
        self._is_aborted = False

    def status(self) -> content_pb2.Status:
        """The progress of the write."""
        return content_pb2.Status(
            started_at=_timestamp(self._started_ns),
            updated_at=_timestamp(self._updated_ns),
            ref=self._ref,
            offset=self._offset,
            total=self._total,
            expected=self._expected,
        )

    def abort(self) -> None:
        """Make the next step fail."""
        self._is_aborted = True

    async def close(self) -> None:
        """Discard uncommitted data."""
        self._writer = None
        await self._stack.aclose()

    async def step(self, request: content_pb2.WriteContentRequest) -> content_pb2.WriteContentResponse:
        """Execute a request.

        Raises:
            AlreadyExistsError: the blob already exists.
            OutOfRangeError: the offset is not that of the write.
            FailedPreconditionError: the blob differs from the expected one, or the write was aborted.
        """
        if self._is_aborted:
            raise FailedPreconditionError(f"write {self._ref!r} was aborted")
        if request.expected:
            await self._expect(request.expected)
        if request.total > 0:
            self._total = request.total
        digest = ""
        if request.action != content_pb2.STAT:
            await self._go_to(request.offset)
            if request.data:
                await self._write(request.data)
            if request.action == content_pb2.COMMIT:
                digest = (await self._commit()).digest
        return content_pb2.WriteContentResponse(
            action=request.action,
            started_at=_timestamp(self._started_ns),
            updated_at=_timestamp(self._updated_ns),
            offset=self._offset,
            total=self._total,
            digest=digest,
        )

    async def _expect(self, digest: str) -> None:
        split_digest(digest)
        self._expected = digest
        try:
            await self._store.info(digest)
        except NotFoundError:
            return
        raise AlreadyExistsError(f"blob {digest} exists")

    async def _go_to(self, offset: int) -> None:
        if offset == self._offset:
            return
        if offset != 0:
            raise OutOfRangeError(f"write {self._ref!r} is at {self._offset}, bytes came for {offset}")
        await self.close()
        self._offset = 0

    async def _write(self, data: bytes) -> None:
        writer = await self._open()
        if self._hash is not None:
            await run_in_thread(self._hash.update, data)
        await writer.write(data)
        self._offset += len(data)
        self._updated_ns = time.time_ns()

    async def _open(self) -> BlobWriter:
        if self._writer is None:
            descriptor = None
            self._promised = self._hash = None
            if self._expected and self._total:
                self._promised = BlobInfo(self._expected, self._total)
                descriptor = Descriptor(_MEDIA_TYPE, self._expected, self._total)
            else:
                self._hash = hashlib.new(self._algorithm())
            self._writer = await self._stack.enter_async_context(self._store.ingest(descriptor))
        return self._writer

    async def _commit(self) -> BlobInfo:
        writer = await self._open()
        if self._total and self._total != self._offset:
            raise FailedPreconditionError(f"unexpected commit size {self._offset}, expected {self._total}")
        if self._hash is not None and self._expected:
            self._check(f"{self._hash.name}:{self._hash.hexdigest()}")
        elif self._promised is not None:
            self._check(self._promised.digest)
        try:
            return await writer.commit()
        except DataLossError as error:  # containerd's clients expect this code
            raise FailedPreconditionError(f"unexpected commit: {error}") from error

    def _check(self, digest: str) -> None:
        if self._expected != digest:
            raise FailedPreconditionError(f"unexpected commit digest {digest}, expected {self._expected}")

    def _algorithm(self) -> str:
        return split_digest(self._expected)[0] if self._expected else _DEFAULT_ALGORITHM


def _timestamp(unix_nanoseconds: int) -> Timestamp:
    seconds, nanos = divmod(unix_nanoseconds, 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)
