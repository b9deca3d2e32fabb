"""Serving streams to a daemon (``moby.upload.v1.Upload``), such as a context on standard input."""

# ruff: noqa: N802 (methods are named as in the .proto)

from __future__ import annotations

import posixpath
import uuid
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import grpc.aio

from exporter.errors import NotFoundError
from exporter.pb.moby.upload.v1 import upload_pb2, upload_pb2_grpc

PATH_KEY = "urlpath"
"""The metadata key for the path of the stream's URL."""

_URL = "http://buildkit-session/"

Context = grpc.aio.ServicerContext[Any, Any]


class UploadServicer(upload_pb2_grpc.UploadServicer):
    """Serves streams. Needs a server with `exporter.rpc.status.StatusInterceptor`.

    Each can be read once.
    """

    def __init__(self) -> None:
        self._streams: dict[str, AsyncIterable[bytes]] = {}

    def add(self, stream: AsyncIterable[bytes]) -> str:
        """Offer a stream, in chunks of at most a few MiB.

        Returns:
            The URL for the build.
        """
        name = uuid.uuid4().hex
        self._streams[name] = stream
        return f"{_URL}{name}"

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server."""
        upload_pb2_grpc.add_UploadServicer_to_server(self, server)

    async def Pull(
        self, request_iterator: AsyncIterator[upload_pb2.BytesMessage], context: Context
    ) -> AsyncIterator[upload_pb2.BytesMessage]:
        """Send a stream."""
        paths = [str(value) for key, value in context.invocation_metadata() or () if key == PATH_KEY]
        name = posixpath.basename(paths[0]) if paths else ""
        stream = self._streams.pop(name, None)
        if stream is None:
            raise NotFoundError(f"the client has no stream {name!r}, or it has been read already")
        async for data in stream:
            yield upload_pb2.BytesMessage(data=data)
