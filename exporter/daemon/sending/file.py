"""Sending one file to the client (upstream: ``session/filesync``, ``CopyFileWriter``)."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import grpc

from exporter.daemon.services.receive import EXPORTER_ID
from exporter.errors import FailedPreconditionError, UnavailableError
from exporter.exporters.destinations import FileSink
from exporter.pb.moby.filesync.v1 import filesync_pb2, filesync_pb2_grpc
from exporter.rpc.calls import StreamCall
from exporter.rpc.session.peer import Peer
from exporter.rpc.status import from_rpc_error

METHOD = "/moby.filesync.v1.FileSend/DiffCopy"
RESPONSE_PREFIX = "exporter-md-"

CHUNK_SIZE = 1 << 20
"""The size of a message (upstream: up to 3 MiB). Each message has overhead, so small writes are joined."""

_HEADER_KEY = re.compile(r"[0-9a-z_.-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")

logger = logging.getLogger(__name__)


@asynccontextmanager
async def sending_file(
    session: Peer, exporter_id: int, response: Mapping[str, str], on_sent: Callable[[int], None]
) -> AsyncIterator[FileSink]:
    """Open a file at the client.

    The client may reject the file with ``ALREADY_EXISTS``. As in BuildKit, this counts as success, and the
    data is dropped. Leaving the block without `FileSink.commit` cancels the call.

    Args:
        session: The client.
        exporter_id: The index of the exporter, which selects the client's output.
        response: Response keys to send as headers.
        on_sent: Called with the number of bytes sent.

    Raises:
        FailedPreconditionError: the client does not accept files.
    """
    if not session.supports(METHOD):
        raise FailedPreconditionError(
            f"method {METHOD} not supported by the client: it takes no files; name a destination there"
        )
    stub = filesync_pb2_grpc.FileSendStub(session.channel)
    call = StreamCall(stub.DiffCopy(metadata=_headers(exporter_id, response)))
    try:
        yield _SessionFile(call, on_sent)
    finally:
        call.cancel()


class _SessionFile:
    """A file that is being sent."""

    def __init__(self, call: StreamCall, on_sent: Callable[[int], None]) -> None:
        self._call = call
        self._on_sent = on_sent
        self._buffer = bytearray()
        self._unwanted = False

    async def write(self, data: bytes) -> None:
        """See `FileSink.write`."""
        self._buffer += data
        while len(self._buffer) >= CHUNK_SIZE:
            await self._send(CHUNK_SIZE)

    async def commit(self) -> None:
        """See `FileSink.commit`."""
        if self._buffer:
            await self._send(len(self._buffer))
        if not self._unwanted:
            await self._call.send_end()
            await self._check_status()

    async def _send(self, length: int) -> None:
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        if self._unwanted:
            return
        if await self._call.send(filesync_pb2.BytesMessage(data=data)):
            self._on_sent(length)
            return
        await self._check_status()
        if not self._unwanted:
            raise UnavailableError("the client stopped reading the file before its end")

    async def _check_status(self) -> None:
        """Wait for the end of the call."""
        error = await self._call.ended_with()
        if error is not None and error.code() is grpc.StatusCode.ALREADY_EXISTS:
            self._unwanted = True
        elif error is not None:
            raise from_rpc_error(error, "sending the file to the client")


def _headers(exporter_id: int, response: Mapping[str, str]) -> list[tuple[str, str]]:
    """Convert response keys to headers. Values that do not fit are only in the export's result."""
    headers = [(EXPORTER_ID, str(exporter_id))]
    for key, value in response.items():
        name = f"{RESPONSE_PREFIX}{key.lower()}"
        if _HEADER_KEY.fullmatch(name) and not name.endswith("-bin") and _HEADER_VALUE.fullmatch(value):
            headers.append((name, value))
        else:
            logger.debug("response key %r does not fit into a header", key)
    return headers
