# ruff: noqa: N802 (methods are named as in the .proto)

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import empty_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.content.copy import read_blob, write_blob
from exporter.content.layout import OCILayout
from exporter.content.memory import MemoryStore
from exporter.content.protocol import BlobInfo
from exporter.daemon.services.content import ContentServicer
from exporter.errors import (
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
)
from exporter.image import Descriptor, digest_bytes
from exporter.pb.containerd.services.content.v1 import content_pb2, content_pb2_grpc
from exporter.remotes.session.content import CHUNK_SIZE, EXPORT_STORE, STORE_ID, ContentClient
from exporter.rpc.session.attach import attach
from tests.sessions import PATIENCE, attached, serving, session_server, until

BLOB = b"a blob that is longer than nothing"
EXPORT = ((STORE_ID, EXPORT_STORE),)


def descriptor_of(data: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", digest_bytes(data), len(data))


class ContainerdLike(content_pb2_grpc.ContentServicer):
    """Behaviour that containerd has and our own service does not: unfinished writes and labels are kept."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.labels: dict[str, dict[str, str]] = {}
        self.unfinished: dict[str, bytearray] = {}
        self.locked: set[str] = set()
        self.received = 0
        self.aborted: list[str] = []
        self.update_code: grpc.StatusCode | None = None
        self.lies = False

    def register(self, server: grpc.aio.Server) -> None:
        content_pb2_grpc.add_ContentServicer_to_server(self, server)

    async def Write(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        ref = ""
        try:
            async for request in request_iterator:
                if not ref:
                    if request.ref in self.locked:
                        await context.abort(grpc.StatusCode.UNAVAILABLE, f"ref {request.ref} locked")
                    ref = request.ref
                    self.locked.add(ref)
                if request.expected in self.blobs:
                    self.unfinished.pop(ref, None)
                    await context.abort(grpc.StatusCode.ALREADY_EXISTS, "exists")
                data = self.unfinished.setdefault(ref, bytearray())
                if request.data:
                    if request.offset != len(data):
                        await context.abort(grpc.StatusCode.OUT_OF_RANGE, "not there")
                    data += request.data
                    self.received += len(request.data)
                digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
                if request.action == content_pb2.COMMIT:
                    if digest != request.expected or len(data) != request.total:
                        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "unexpected commit digest")
                    self.blobs[digest] = bytes(self.unfinished.pop(ref))
                    self.labels[digest] = dict(request.labels)
                offset = len(data) - (1 if self.lies and data else 0)
                yield content_pb2.WriteContentResponse(action=request.action, offset=offset, digest=digest)
                if request.action == content_pb2.COMMIT:
                    return
        finally:
            self.locked.discard(ref)

    async def Abort(self, request: Any, context: Any) -> Any:
        self.aborted.append(request.ref)
        self.unfinished.pop(request.ref, None)
        return empty_pb2.Empty()

    async def Update(self, request: Any, context: Any) -> Any:
        if self.update_code is not None:
            await context.abort(self.update_code, "no labels here")
        assert set(request.update_mask.paths) == {f"labels.{key}" for key in request.info.labels}
        self.labels.setdefault(request.info.digest, {}).update(request.info.labels)
        return content_pb2.UpdateResponse(info=request.info)

    async def Info(self, request: Any, context: Any) -> Any:
        if request.digest not in self.blobs:
            await context.abort(grpc.StatusCode.NOT_FOUND, "not found")
        labels = self.labels.get(request.digest)
        size = len(self.blobs[request.digest])
        return content_pb2.InfoResponse(
            info=content_pb2.Info(digest=request.digest, size=size, labels=labels)
        )

    async def Delete(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    Read = List = Status = ListStatuses = Delete  # type: ignore[assignment]


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE + 7])
async def test_blobs_can_be_written_and_read_through_a_session(tmp_path: Path, size: int) -> None:
    blob = os.urandom(size)
    layout = await OCILayout.open(tmp_path / "layout")
    async with attached(ContentServicer(stores={EXPORT_STORE: layout}).register) as session:
        store = ContentClient(session.channel, metadata=EXPORT)
        with pytest.raises(NotFoundError):
            await store.info(digest_bytes(blob))
        expected = BlobInfo(digest_bytes(blob), size)
        assert await write_blob(store, blob, descriptor_of(blob)) == expected
        assert await store.info(digest_bytes(blob)) == expected
        assert await read_blob(store, descriptor_of(blob)) == blob
    assert await read_blob(layout, descriptor_of(blob)) == blob


@pytest.mark.parametrize("promised", [True, False])
async def test_existing_blobs_are_accepted(tmp_path: Path, promised: bool) -> None:
    layout = await OCILayout.open(tmp_path / "layout")
    async with serving(ContentServicer(stores={EXPORT_STORE: layout}).register) as channel:
        store = ContentClient(channel, metadata=EXPORT)
        for _ in range(2):
            descriptor = descriptor_of(BLOB) if promised else None
            assert await write_blob(store, BLOB, descriptor) == BlobInfo(digest_bytes(BLOB), len(BLOB))
        assert await layout.blobs() == [BlobInfo(digest_bytes(BLOB), len(BLOB))]


async def test_many_writers_of_one_blob_all_succeed(tmp_path: Path) -> None:
    blob = os.urandom(2 * CHUNK_SIZE)
    layout = await OCILayout.open(tmp_path / "layout")
    async with serving(ContentServicer(stores={EXPORT_STORE: layout}).register) as channel:
        store = ContentClient(channel, metadata=EXPORT)
        async with AsyncExitStack() as stack:
            writers = [await stack.enter_async_context(store.ingest(descriptor_of(blob))) for _ in range(4)]
            for start in range(0, len(blob), CHUNK_SIZE):
                for writer in writers:
                    await writer.write(blob[start : start + CHUNK_SIZE])
            infos = await asyncio.gather(*(writer.commit() for writer in writers))
        assert infos == [BlobInfo(digest_bytes(blob), len(blob))] * 4
    assert await read_blob(layout, descriptor_of(blob)) == blob


@settings(max_examples=30)
@given(st.integers(0, 40), st.none() | st.integers(0, 40))
def test_any_part_can_be_read(offset: int, length: int | None) -> None:
    async def read() -> bytes:
        source = MemoryStore()
        await write_blob(source, BLOB)
        async with serving(ContentServicer(source).register) as channel:
            pieces = ContentClient(channel).read(digest_bytes(BLOB), offset=offset, length=length)
            return b"".join([piece async for piece in pieces])

    if offset > len(BLOB) and length != 0:
        with pytest.raises(InvalidArgumentError):
            asyncio.run(read())
    else:
        assert asyncio.run(read()) == BLOB[offset:][: length if length is not None else None]


async def test_a_missing_blob_is_reported_by_the_first_step() -> None:
    async with serving(ContentServicer(MemoryStore()).register) as channel:
        with pytest.raises(NotFoundError, match="not found"):
            await anext(ContentClient(channel).read(digest_bytes(b"")))


async def test_a_reader_that_stops_early_cancels_the_call() -> None:
    closed = asyncio.Event()

    class Endless(MemoryStore):
        async def info(self, digest: str) -> BlobInfo:
            return BlobInfo(digest, 1 << 40)

        async def read(
            self, digest: str, *, offset: int = 0, length: int | None = None
        ) -> AsyncIterator[bytes]:
            try:
                while True:
                    yield bytes(CHUNK_SIZE)
            finally:
                closed.set()

    async with serving(ContentServicer(Endless()).register) as channel:
        pieces = ContentClient(channel).read(digest_bytes(b""))
        assert len(await anext(pieces)) == CHUNK_SIZE
        await pieces.aclose()  # type: ignore[attr-defined]
        async with asyncio.timeout(PATIENCE):
            await closed.wait()


async def test_a_wrong_blob_is_rejected_and_discarded(tmp_path: Path) -> None:
    layout = await OCILayout.open(tmp_path / "layout")
    async with serving(ContentServicer(stores={EXPORT_STORE: layout}).register) as channel:
        store = ContentClient(channel, metadata=EXPORT)
        for descriptor in (
            descriptor_of(b"something else of this length....."),
            Descriptor("x", digest_bytes(BLOB), len(BLOB) + 1),
            Descriptor("x", digest_bytes(BLOB), len(BLOB) - 1),
        ):
            with pytest.raises(DataLossError):
                await write_blob(store, BLOB, descriptor)
        assert await layout.blobs() == []


async def test_read_only_stores_refuse_writes() -> None:
    async with serving(ContentServicer(MemoryStore()).register) as channel:
        for _ in range(50):  # the refusal may come before, after or in the middle of what is sent
            with pytest.raises(PermissionDeniedError):
                await write_blob(ContentClient(channel), BLOB)


async def test_a_store_that_fails_while_it_is_written_to_says_why() -> None:
    class Full(ContainerdLike):
        async def Write(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
            request = await anext(aiter(request_iterator))
            yield content_pb2.WriteContentResponse(action=request.action)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "disk full")

    async with serving(Full().register) as channel:
        with pytest.raises(ResourceExhaustedError, match="disk full"):
            await write_blob(ContentClient(channel), bytes(8 * CHUNK_SIZE))


async def test_a_failure_in_the_block_aborts_the_write() -> None:
    peer = ContainerdLike()
    async with serving(peer.register) as channel:
        with pytest.raises(RuntimeError, match="mine"):
            async with ContentClient(channel).ingest(descriptor_of(BLOB)) as writer:
                await writer.write(BLOB)
                raise RuntimeError("mine")
        assert peer.aborted == [f"buildkit-exporter-{digest_bytes(BLOB)}"]
        assert peer.blobs == {}


async def test_cancelling_aborts_the_write() -> None:
    peer, going = ContainerdLike(), asyncio.Event()

    async def export(channel: grpc.aio.Channel) -> None:
        async with ContentClient(channel).ingest(descriptor_of(BLOB)) as writer:
            await writer.write(BLOB)
            going.set()
            await asyncio.Event().wait()

    async with serving(peer.register) as channel:
        task = asyncio.create_task(export(channel))
        await going.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert peer.aborted == [f"buildkit-exporter-{digest_bytes(BLOB)}"]


async def test_a_write_resumes_after_a_lost_connection() -> None:
    blob, peer = os.urandom(5 * CHUNK_SIZE // 2), ContainerdLike()
    async with session_server() as (sessions, channel), AsyncExitStack() as stack:
        async with attach(channel, [peer.register]) as attachment:
            session = await sessions.wait(attachment.id, PATIENCE)
            ingest = ContentClient(session.channel).ingest(descriptor_of(blob))
            writer = await stack.enter_async_context(ingest)
            await writer.write(blob[: 2 * CHUNK_SIZE + 1])
        await writer.write(blob[2 * CHUNK_SIZE + 1 :])
        with pytest.raises(UnavailableError):
            await writer.commit()
    [kept] = peer.unfinished.values()
    assert bytes(kept) == blob[: 2 * CHUNK_SIZE]
    await until(lambda: not peer.locked)
    peer.received = 0
    async with serving(peer.register) as channel:
        assert await write_blob(ContentClient(channel), blob, descriptor_of(blob)) == BlobInfo(
            digest_bytes(blob), len(blob)
        )
    assert peer.received == len(blob) - 2 * CHUNK_SIZE
    assert peer.blobs == {digest_bytes(blob): blob}


async def test_a_corrupt_partial_write_is_detected_and_discarded() -> None:
    peer = ContainerdLike()
    peer.unfinished[f"buildkit-exporter-{digest_bytes(BLOB)}"] = bytearray(b"rubbish")
    async with serving(peer.register) as channel:
        with pytest.raises(DataLossError):
            await write_blob(ContentClient(channel), BLOB, descriptor_of(BLOB))
        assert await write_blob(ContentClient(channel), BLOB, descriptor_of(BLOB))
    assert peer.blobs == {digest_bytes(BLOB): BLOB}


async def test_a_write_that_is_locked_by_another_writer_uses_a_new_ref() -> None:
    peer = ContainerdLike()
    peer.locked.add(f"buildkit-exporter-{digest_bytes(BLOB)}")
    async with serving(peer.register) as channel:
        await write_blob(ContentClient(channel), BLOB, descriptor_of(BLOB))
    assert peer.blobs == {digest_bytes(BLOB): BLOB}


async def test_a_blob_that_appears_meanwhile_is_accepted() -> None:
    peer = ContainerdLike()
    async with (
        serving(peer.register) as channel,
        ContentClient(channel).ingest(descriptor_of(BLOB)) as writer,
    ):
        await writer.write(BLOB)
        peer.blobs[digest_bytes(BLOB)] = BLOB
        assert await writer.commit() == BlobInfo(digest_bytes(BLOB), len(BLOB))
    assert peer.aborted == []


async def test_labels_are_set_on_commit_and_added_to_existing_blobs() -> None:
    peer = ContainerdLike()
    async with serving(peer.register) as channel:
        store = ContentClient(channel)
        for labels in ({"a": "1"}, {"b": "2"}):
            await write_blob(store, BLOB, descriptor_of(BLOB), labels)
    assert peer.labels == {digest_bytes(BLOB): {"a": "1", "b": "2"}}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.FAILED_PRECONDITION, None),
        (grpc.StatusCode.UNIMPLEMENTED, None),
        (grpc.StatusCode.PERMISSION_DENIED, PermissionDeniedError),
    ],
)
async def test_stores_without_labels_are_fine(code: grpc.StatusCode, kind: type[Exception] | None) -> None:
    peer = ContainerdLike()
    peer.blobs[digest_bytes(BLOB)] = BLOB
    peer.update_code = code
    async with serving(peer.register) as channel:
        write = write_blob(ContentClient(channel), BLOB, descriptor_of(BLOB), {"a": "1"})
        if kind is None:
            await write
        else:
            with pytest.raises(kind):
                await write


async def test_a_store_that_loses_bytes_is_detected() -> None:
    peer, blob = ContainerdLike(), bytes(3 * CHUNK_SIZE)
    peer.lies = True
    async with serving(peer.register) as channel:
        with pytest.raises(DataLossError, match="the store has"):
            await write_blob(ContentClient(channel), blob, descriptor_of(blob))


async def test_metadata_goes_with_every_call() -> None:
    seen: list[tuple[str, str]] = []

    class Listening(ContentServicer):
        def _choose(self, context: Any) -> Any:
            seen.extend((k, v) for k, v in context.invocation_metadata() if k == "containerd-namespace")
            return super()._choose(context)

    servicer = Listening(stores={"s": MemoryStore()})
    metadata = ((STORE_ID, "s"), ("containerd-namespace", "moby"))
    async with serving(servicer.register) as channel:
        store = ContentClient(channel, metadata=metadata)
        await write_blob(store, BLOB, descriptor_of(BLOB))
        await store.info(digest_bytes(BLOB))
        await read_blob(store, descriptor_of(BLOB))
        with pytest.raises(DataLossError):
            await write_blob(store, b"", Descriptor("x", digest_bytes(b"y"), 1))
    assert len(seen) == 1 + 1 + 1 + 2  # write, info, read, write and abort
    assert set(seen) == {("containerd-namespace", "moby")}


async def test_a_peer_that_disconnects_is_unavailable() -> None:
    source = MemoryStore()
    await write_blob(source, BLOB)
    async with session_server() as (sessions, channel):
        async with attach(channel, [ContentServicer(source, {"s": source}).register]) as attachment:
            session = await sessions.wait(attachment.id, PATIENCE)
            reader = ContentClient(session.channel)
            store = ContentClient(session.channel, metadata=((STORE_ID, "s"),))
            stack = AsyncExitStack()
            writer = await stack.enter_async_context(store.ingest())
            await writer.write(BLOB)
        with pytest.raises(UnavailableError):
            await reader.info(digest_bytes(BLOB))
        with pytest.raises(UnavailableError):
            await read_blob(reader, descriptor_of(BLOB))
        with pytest.raises(UnavailableError):
            await writer.commit()
        await stack.aclose()
        with pytest.raises(UnavailableError):
            await write_blob(store, BLOB)


async def test_memory_does_not_grow_with_the_blob() -> None:
    size, held, most = 256 << 20, 0, 0

    class Counting:
        async def info(self, digest: str) -> BlobInfo:
            return BlobInfo(digest, size)

        async def read(
            self, digest: str, *, offset: int = 0, length: int | None = None
        ) -> AsyncIterator[bytes]:
            nonlocal held, most
            for _ in range(0, size, CHUNK_SIZE):
                held += CHUNK_SIZE
                most = max(most, held)
                yield bytes(CHUNK_SIZE)

    async with attached(ContentServicer(Counting()).register) as session:
        async for data in ContentClient(session.channel).read(digest_bytes(b"")):
            held -= len(data)
            await asyncio.sleep(0)
    assert held == 0
    assert most < 16 << 20
