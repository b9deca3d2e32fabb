"""Our client of the content API, against containerd itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc.aio
import pytest

from exporter.content.copy import read_blob, write_blob
from exporter.content.protocol import BlobInfo
from exporter.errors import DataLossError, InvalidArgumentError, NotFoundError, UnavailableError
from exporter.image import Descriptor, digest_bytes
from exporter.pb.containerd.services.content.v1 import content_pb2, content_pb2_grpc
from exporter.remotes.session.content import CHUNK_SIZE, ContentClient
from tests.integration.containerd_peer import ContainerdPeer
from tests.integration.containerd_peer import containerd as running_containerd

NAMESPACE = (("containerd-namespace", "test"),)


@pytest.fixture(scope="module")
def peer() -> Iterator[ContainerdPeer]:
    with running_containerd() as peer:
        yield peer


@pytest.fixture
async def containerd(peer: ContainerdPeer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"unix:{peer.socket}") as channel:
        yield channel


def descriptor_of(data: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", digest_bytes(data), len(data))


async def test_blobs_can_be_written_and_read(containerd: grpc.aio.Channel) -> None:
    store = ContentClient(containerd, metadata=NAMESPACE)
    for size in (0, 1, CHUNK_SIZE, 3 * CHUNK_SIZE + 5):
        blob = os.urandom(size)
        with pytest.raises(NotFoundError):
            await store.info(digest_bytes(blob))
        for descriptor in (descriptor_of(blob), descriptor_of(blob), None):
            assert await write_blob(store, blob, descriptor) == BlobInfo(digest_bytes(blob), size)
        assert await store.info(digest_bytes(blob)) == BlobInfo(digest_bytes(blob), size)
        assert await read_blob(store, descriptor_of(blob)) == blob
        part = b"".join([data async for data in store.read(digest_bytes(blob), offset=size // 2, length=3)])
        assert part == blob[size // 2 :][:3]
        with pytest.raises(InvalidArgumentError):
            await anext(store.read(digest_bytes(blob), offset=size + 1))


async def test_wrong_blobs_are_refused_and_leave_nothing(containerd: grpc.aio.Channel) -> None:
    store = ContentClient(containerd, metadata=NAMESPACE)
    stub = content_pb2_grpc.ContentStub(containerd)
    blob = os.urandom(100)
    for descriptor in (
        descriptor_of(os.urandom(100)),
        Descriptor("x", digest_bytes(blob), 99),
        Descriptor("x", digest_bytes(blob), 101),
    ):
        with pytest.raises(DataLossError):
            await write_blob(store, blob, descriptor)
        with pytest.raises(NotFoundError):
            await store.info(descriptor.digest)
    statuses = await stub.ListStatuses(content_pb2.ListStatusesRequest(), metadata=NAMESPACE)
    assert list(statuses.statuses) == []


async def test_labels_are_kept_and_added_to_what_is_there(containerd: grpc.aio.Channel) -> None:
    store = ContentClient(containerd, metadata=NAMESPACE)
    stub = content_pb2_grpc.ContentStub(containerd)
    blob = os.urandom(100)
    await write_blob(store, blob, descriptor_of(blob), {"containerd.io/gc.ref.content.0": "a"})
    await write_blob(store, blob, descriptor_of(blob), {"containerd.io/gc.ref.content.1": "b"})
    info = await stub.Info(content_pb2.InfoRequest(digest=digest_bytes(blob)), metadata=NAMESPACE)
    assert dict(info.info.labels) == {
        "containerd.io/gc.ref.content.0": "a",
        "containerd.io/gc.ref.content.1": "b",
    }


async def test_many_writers_of_one_blob_all_succeed(containerd: grpc.aio.Channel) -> None:
    store = ContentClient(containerd, metadata=NAMESPACE)
    blob = os.urandom(2 * CHUNK_SIZE)
    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(store.ingest(descriptor_of(blob))) for _ in range(3)]
        await asyncio.gather(*(writer.write(blob) for writer in writers))
        infos = await asyncio.gather(*(writer.commit() for writer in writers))
    assert infos == [BlobInfo(digest_bytes(blob), len(blob))] * 3
    assert await read_blob(store, descriptor_of(blob)) == blob


async def test_a_write_resumes_after_a_lost_connection(
    containerd: grpc.aio.Channel, peer: ContainerdPeer
) -> None:
    stub = content_pb2_grpc.ContentStub(containerd)
    blob = os.urandom(4 * CHUNK_SIZE)
    relay = await Relay.to(Path(peer.socket))
    async with grpc.aio.insecure_channel(f"unix:{relay.path}") as channel, AsyncExitStack() as stack:
        ingest = ContentClient(channel, metadata=NAMESPACE).ingest(descriptor_of(blob))
        writer = await stack.enter_async_context(ingest)
        await writer.write(blob[: 3 * CHUNK_SIZE])
        await relay.cut()
        with pytest.raises(UnavailableError):
            await writer.write(blob[3 * CHUNK_SIZE :])
            await writer.commit()
    statuses = await stub.ListStatuses(content_pb2.ListStatusesRequest(), metadata=NAMESPACE)
    [status] = statuses.statuses
    assert (status.ref, status.offset) == (f"buildkit-exporter-{digest_bytes(blob)}", 2 * CHUNK_SIZE)
    store = ContentClient(containerd, metadata=NAMESPACE)
    assert await write_blob(store, blob, descriptor_of(blob)) == BlobInfo(digest_bytes(blob), len(blob))
    assert await read_blob(store, descriptor_of(blob)) == blob
    statuses = await stub.ListStatuses(content_pb2.ListStatusesRequest(), metadata=NAMESPACE)
    assert list(statuses.statuses) == []


class Relay:
    """A socket in front of containerd's, so that a connection can be cut."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    @classmethod
    async def to(cls, socket: Path) -> Relay:
        relay = cls(socket.with_name("relay"))

        async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()

        async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_unix_connection(socket)
            relay._writers += [writer, back]
            relay._tasks += [
                asyncio.create_task(pump(reader, back)),
                asyncio.create_task(pump(there, writer)),
            ]

        relay._server = await asyncio.start_unix_server(on_connect, relay.path)
        return relay

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.wait(self._tasks)
