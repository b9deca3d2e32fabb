from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from exporter.content.copy import write_blob
from exporter.content.layout import OCILayout
from exporter.content.memory import MemoryStore
from exporter.content.protocol import ContentStore
from exporter.daemon.services.content import CHUNK_SIZE, ContentServicer
from exporter.errors import NotFoundError
from exporter.pb.containerd.services.content.v1 import content_pb2, content_pb2_grpc
from exporter.remotes.session.content import STORE_ID
from tests.sessions import serving, until

BLOB = b"a blob that is longer than nothing"
EXPORT = ((STORE_ID, "export"),)


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@asynccontextmanager
async def stub_of(servicer: ContentServicer) -> AsyncIterator[content_pb2_grpc.ContentStub]:
    async with serving(servicer.register) as channel:
        yield content_pb2_grpc.ContentStub(channel)


@asynccontextmanager
async def export_store(path: Path) -> AsyncIterator[tuple[OCILayout, content_pb2_grpc.ContentStub]]:
    layout = await OCILayout.open(path / "layout")
    async with stub_of(ContentServicer(stores={"export": layout})) as stub:
        yield layout, stub


class Call:
    """A write, step by step."""

    def __init__(self, stub: content_pb2_grpc.ContentStub, metadata: Any = EXPORT) -> None:
        self._call = stub.Write(metadata=metadata)

    async def __call__(
        self, action: content_pb2.WriteAction.ValueType, **fields: Any
    ) -> content_pb2.WriteContentResponse:
        await self._call.write(content_pb2.WriteContentRequest(action=action, **fields))
        response = await self._call.read()
        assert isinstance(response, content_pb2.WriteContentResponse)
        return response

    def cancel(self) -> None:
        self._call.cancel()


async def code_of(awaitable: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    return caught.value.code()


async def has(store: ContentStore, data: bytes) -> bool:
    try:
        return (await store.info(digest_of(data))).size == len(data)
    except NotFoundError:
        return False


async def test_a_write_as_containerds_client_does_it(tmp_path: Path) -> None:
    async with export_store(tmp_path) as (layout, stub):
        call = Call(stub)
        begun = await call(content_pb2.STAT, ref="r", total=len(BLOB), expected=digest_of(BLOB))
        assert (begun.action, begun.offset, begun.total) == (content_pb2.STAT, 0, len(BLOB))
        assert begun.started_at.seconds > 0
        written = await call(content_pb2.WRITE, data=BLOB[:10])
        assert written.offset == 10
        assert not await has(layout, BLOB)
        written = await call(content_pb2.WRITE, data=BLOB[10:], offset=10)
        done = await call(
            content_pb2.COMMIT, offset=written.offset, total=len(BLOB), expected=digest_of(BLOB)
        )
        assert (done.offset, done.digest) == (len(BLOB), digest_of(BLOB))
        assert await has(layout, BLOB)


async def test_a_write_in_one_message(tmp_path: Path) -> None:
    async with export_store(tmp_path) as (layout, stub):
        done = await Call(stub)(content_pb2.COMMIT, ref="r", data=BLOB)
        assert done.digest == digest_of(BLOB)
        assert await has(layout, BLOB)


async def test_an_empty_blob(tmp_path: Path) -> None:
    async with export_store(tmp_path) as (layout, stub):
        done = await Call(stub)(content_pb2.COMMIT, ref="r", expected=digest_of(b""))
        assert done.digest == digest_of(b"")
        assert await has(layout, b"")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_size_and_digest_may_come_with_the_commit(tmp_path: Path, algorithm: str) -> None:
    async with export_store(tmp_path) as (layout, stub):
        call = Call(stub)
        await call(content_pb2.STAT, ref="r")
        await call(content_pb2.WRITE, data=BLOB)
        commit = call(
            content_pb2.COMMIT, offset=len(BLOB), total=len(BLOB), expected=digest_of(BLOB, algorithm)
        )
        if algorithm == "sha256":
            assert (await commit).digest == digest_of(BLOB)
        else:  # by then it has been hashed otherwise
            assert await code_of(commit) is grpc.StatusCode.FAILED_PRECONDITION
            assert await layout.blobs() == []


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("total", "expected"),
    [(len(BLOB), digest_of(b"other")), (len(BLOB) - 1, digest_of(BLOB)), (len(BLOB) + 1, digest_of(BLOB))],
)
async def test_a_mismatch_is_not_committed(tmp_path: Path, total: int, expected: str, late: bool) -> None:
    async with export_store(tmp_path) as (layout, stub):
        call = Call(stub)
        promise: dict[str, Any] = {"total": total, "expected": expected}
        await call(content_pb2.STAT, ref="r", **({} if late else promise))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(content_pb2.WRITE, data=BLOB)
            await call(content_pb2.COMMIT, offset=len(BLOB), **promise)
        # A blob that is too long is known before its end.
        assert caught.value.code() in {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.DATA_LOSS}
        assert await layout.blobs() == []


async def test_expected_size_and_digest_must_not_change(tmp_path: Path) -> None:
    async with export_store(tmp_path) as (layout, stub):
        call = Call(stub)
        await call(content_pb2.WRITE, ref="r", data=BLOB, total=len(BLOB), expected=digest_of(BLOB))
        commit = call(content_pb2.COMMIT, offset=len(BLOB), expected=digest_of(b"other"))
        assert await code_of(commit) is grpc.StatusCode.FAILED_PRECONDITION
        assert await layout.blobs() == []


async def test_a_blob_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    async with export_store(tmp_path) as (layout, stub):
        await write_blob(layout, BLOB)
        stat = Call(stub)(content_pb2.STAT, ref="r", expected=digest_of(BLOB))
        assert await code_of(stat) is grpc.StatusCode.ALREADY_EXISTS


async def test_offsets_must_match_the_write(tmp_path: Path) -> None:
    async with export_store(tmp_path) as (layout, stub):
        call = Call(stub)
        await call(content_pb2.WRITE, ref="r", data=b"0123456789")
        assert await code_of(call(content_pb2.WRITE, data=b"x", offset=5)) is grpc.StatusCode.OUT_OF_RANGE
        assert await layout.blobs() == []


async def test_offset_0_restarts_the_write(tmp_path: Path) -> None:
    async with export_store(tmp_path) as (layout, stub):
        call = Call(stub)
        await call(content_pb2.WRITE, ref="r", data=b"rubbish", total=len(BLOB), expected=digest_of(BLOB))
        written = await call(content_pb2.WRITE, data=BLOB, offset=0)
        assert written.offset == len(BLOB)
        await call(content_pb2.COMMIT, offset=len(BLOB))
        assert await has(layout, BLOB)


async def test_one_call_per_write(tmp_path: Path) -> None:
    async with export_store(tmp_path) as (layout, stub):
        first, second = Call(stub), Call(stub)
        await first(content_pb2.STAT, ref="r")
        assert await code_of(second(content_pb2.STAT, ref="r")) is grpc.StatusCode.UNAVAILABLE
        await first(content_pb2.COMMIT, data=BLOB)
        assert await has(layout, BLOB)
        await Call(stub)(content_pb2.STAT, ref="r")


async def test_uncommitted_writes_are_discarded(tmp_path: Path) -> None:
    async with export_store(tmp_path) as (layout, stub):
        call = Call(stub)
        await call(content_pb2.WRITE, ref="r", data=BLOB)
        call.cancel()

        async def locked() -> bool:
            again = Call(stub)
            try:
                return (await again(content_pb2.STAT, ref="r")).offset != 0
            except grpc.aio.AioRpcError:
                return True
            finally:
                again.cancel()

        async with asyncio.timeout(30):
            while await locked():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await layout.blobs() == []
        await until(lambda: not [p for p in layout.path.iterdir() if p.name.startswith(".")])


async def test_unfinished_writes_are_described_and_aborted(tmp_path: Path) -> None:
    async with export_store(tmp_path) as (layout, stub):
        call = Call(stub)
        await call(content_pb2.WRITE, ref="r", data=BLOB, total=100, expected=digest_of(b"x"))
        status = (await stub.Status(content_pb2.StatusRequest(ref="r"), metadata=EXPORT)).status
        assert (status.ref, status.offset, status.total, status.expected) == (
            "r",
            len(BLOB),
            100,
            digest_of(b"x"),
        )
        listed = await stub.ListStatuses(content_pb2.ListStatusesRequest(), metadata=EXPORT)
        assert list(listed.statuses) == [status]
        await stub.Abort(content_pb2.AbortRequest(ref="r"), metadata=EXPORT)
        assert await code_of(call(content_pb2.COMMIT, offset=len(BLOB))) is (
            grpc.StatusCode.FAILED_PRECONDITION
        )
        gone = stub.Status(content_pb2.StatusRequest(ref="r"), metadata=EXPORT)
        assert await code_of(gone) is grpc.StatusCode.NOT_FOUND
        await stub.Abort(content_pb2.AbortRequest(ref="r"), metadata=EXPORT)
        assert await layout.blobs() == []


async def test_a_write_needs_a_name(tmp_path: Path) -> None:
    async with export_store(tmp_path) as (_, stub):
        assert await code_of(Call(stub)(content_pb2.STAT)) is grpc.StatusCode.INVALID_ARGUMENT


async def test_stores_are_chosen_by_metadata() -> None:
    source, one, two = MemoryStore(), MemoryStore(), MemoryStore()
    for number, store in enumerate((source, one, two)):
        await write_blob(store, bytes([number]))
    async with stub_of(ContentServicer(source, {"one": one, "two": two})) as stub:
        for number, metadata in enumerate(((), ((STORE_ID, "one"),), ((STORE_ID, "two"),))):
            for other in range(3):
                request = content_pb2.InfoRequest(digest=digest_of(bytes([other])))
                call = stub.Info(request, metadata=metadata)
                if other == number:
                    assert (await call).info.size == 1
                else:
                    assert await code_of(call) is grpc.StatusCode.NOT_FOUND
        request = content_pb2.InfoRequest(digest=digest_of(b"\0"))
        unknown = stub.Info(request, metadata=((STORE_ID, "three"),))
        assert await code_of(unknown) is grpc.StatusCode.NOT_FOUND
    async with stub_of(ContentServicer(stores={"one": one})) as stub:
        assert await code_of(stub.Info(request)) is grpc.StatusCode.INVALID_ARGUMENT


async def test_sources_cannot_be_written_to() -> None:
    source = MemoryStore()
    read_only = _ReadOnly(source)
    async with stub_of(ContentServicer(source, {"read-only": read_only})) as stub:
        for metadata in ((), ((STORE_ID, "read-only"),)):
            write = Call(stub, metadata)(content_pb2.COMMIT, ref="r", data=BLOB)
            assert await code_of(write) is grpc.StatusCode.PERMISSION_DENIED
    assert source.blobs() == []


class _ReadOnly:
    def __init__(self, store: MemoryStore) -> None:
        self.info, self.read = store.info, store.read


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 0), (0, 5), (7, 0), (7, 5), (30, 100), (len(BLOB), 0), (-3, 2)]
)
async def test_reading_a_part(offset: int, size: int) -> None:
    store = MemoryStore()
    await write_blob(store, BLOB)
    async with stub_of(ContentServicer(store)) as stub:
        request = content_pb2.ReadContentRequest(digest=digest_of(BLOB), offset=offset, size=size)
        data = b"".join([response.data async for response in stub.Read(request)])
    start = max(offset, 0)
    assert data == BLOB[start : start + size if size else None]


async def test_reading_past_the_end() -> None:
    store = MemoryStore()
    await write_blob(store, BLOB)
    async with stub_of(ContentServicer(store)) as stub:
        request = content_pb2.ReadContentRequest(digest=digest_of(BLOB), offset=len(BLOB) + 1)
        assert await code_of(stub.Read(request).read()) is grpc.StatusCode.OUT_OF_RANGE


async def test_large_blobs_are_read_in_pieces_with_offsets() -> None:
    class OnePiece(MemoryStore):
        async def read(
            self, digest: str, *, offset: int = 0, length: int | None = None
        ) -> AsyncIterator[bytes]:
            yield b"".join([data async for data in super().read(digest, offset=offset, length=length)])

    store, blob = OnePiece(), bytes(2 * CHUNK_SIZE + 5)
    await write_blob(store, blob)
    async with stub_of(ContentServicer(store)) as stub:
        request = content_pb2.ReadContentRequest(digest=digest_of(blob))
        pieces = [(response.offset, len(response.data)) async for response in stub.Read(request)]
    assert pieces == [(0, CHUNK_SIZE), (CHUNK_SIZE, CHUNK_SIZE), (2 * CHUNK_SIZE, 5)]


async def test_blobs_are_listed_if_the_store_supports_it(tmp_path: Path) -> None:
    async with export_store(tmp_path) as (layout, stub):
        for number in range(3):
            await write_blob(layout, bytes([number]))
        call = stub.List(content_pb2.ListContentRequest(), metadata=EXPORT)
        found = {(info.digest, info.size) async for response in call for info in response.info}
        assert found == {(digest_of(bytes([number])), 1) for number in range(3)}
        filtered = stub.List(content_pb2.ListContentRequest(filters=["x"]), metadata=EXPORT)
        assert await code_of(filtered.read()) is grpc.StatusCode.INVALID_ARGUMENT
    async with stub_of(ContentServicer(MemoryStore())) as stub:
        call = stub.List(content_pb2.ListContentRequest())
        assert await code_of(call.read()) is grpc.StatusCode.UNIMPLEMENTED


async def test_labels_are_refused_as_containerds_bare_store_does(tmp_path: Path) -> None:
    async with export_store(tmp_path) as (layout, stub):
        await write_blob(layout, BLOB)
        for data, code in (
            (BLOB, grpc.StatusCode.FAILED_PRECONDITION),
            (b"unknown", grpc.StatusCode.NOT_FOUND),
        ):
            info = content_pb2.Info(digest=digest_of(data), labels={"a": "b"})
            assert await code_of(stub.Update(content_pb2.UpdateRequest(info=info), metadata=EXPORT)) is code
        delete = stub.Delete(content_pb2.DeleteContentRequest(digest=digest_of(BLOB)), metadata=EXPORT)
        assert await code_of(delete) is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("digest", ["", "x", "sha256:..", "../../etc/passwd", "sha256:" + "0" * 63])
async def test_malformed_digests_are_refused(tmp_path: Path, digest: str) -> None:
    async with export_store(tmp_path) as (_, stub):
        info = stub.Info(content_pb2.InfoRequest(digest=digest), metadata=EXPORT)
        assert await code_of(info) is grpc.StatusCode.INVALID_ARGUMENT
        read = stub.Read(content_pb2.ReadContentRequest(digest=digest), metadata=EXPORT)
        assert await code_of(read.read()) is grpc.StatusCode.INVALID_ARGUMENT
        if digest:
            write = Call(stub)(content_pb2.STAT, ref="r", expected=digest)
            assert await code_of(write) is grpc.StatusCode.INVALID_ARGUMENT
