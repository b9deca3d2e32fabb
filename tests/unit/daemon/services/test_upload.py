"""Streams that a daemon reads through a session."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from exporter.daemon.services.upload import PATH_KEY, UploadServicer
from exporter.pb.moby.upload.v1 import upload_pb2, upload_pb2_grpc
from tests.sessions import serving


async def pieces() -> AsyncIterator[bytes]:
    yield b"one "
    yield b"two"


async def test_an_upload_can_be_pulled_once() -> None:
    servicer = UploadServicer()
    url = servicer.add(pieces())
    assert url.startswith("http://buildkit-session/")
    path = url.removeprefix("http://buildkit-session")
    async with serving(servicer.register) as channel:
        stub = upload_pb2_grpc.UploadStub(channel)

        async def pull(path: str) -> bytes:
            call = stub.Pull(iter([upload_pb2.BytesMessage()]), metadata=((PATH_KEY, path),))
            return b"".join([message.data async for message in call])

        assert await pull(path) == b"one two"
        for wrong in (path, "/other"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await pull(wrong)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
