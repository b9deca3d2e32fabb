"""Opening a session's stream on its own HTTP/2 connection, without gRPC.

A session's bytes arrive in tens of thousands of small messages. Handling one in gRPC costs several times as
much as handling its frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc

from exporter.errors import UnavailableError
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.rpc.http2.ending import end_of_trailers
from exporter.rpc.http2.frames import ProtocolError
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.sockets import Dial, Scheduler, dialling
from exporter.rpc.http2.stream import Stream
from exporter.rpc.http2.tunnel import Deframer, frame_bytes
from exporter.rpc.http2.water import HighWater
from exporter.rpc.session.attach import SessionDialer
from exporter.rpc.session.tunnel import MessageStream

SESSION_PATH = "/moby.buildkit.v1.Control/Session"


def session_dialer(dial: Dial, name: str) -> SessionDialer:
    """Make a dialer for `exporter.rpc.session.attach.attach`.

    Args:
        dial: Connects to the daemon.
        name: The daemon's address, for errors.
    """

    @asynccontextmanager
    async def open_session(metadata: Sequence[tuple[str, str]]) -> AsyncIterator[MessageStream]:
        try:
            transport, protocol = await dial(dialling(Scheduler()))
        except OSError as error:
            raise UnavailableError(f"cannot reach a BuildKit daemon at {name}: {error}") from error
        connection = protocol.connection
        assert connection is not None
        scheme = "http" if transport.get_extra_info("sslcontext") is None else "https"
        try:
            yield _SessionCall(connection.open_stream(_headers(scheme, metadata), end=False))
        finally:
            connection.close()

    return open_session


def _headers(scheme: str, metadata: Sequence[tuple[str, str]]) -> Headers:
    fields = [
        (":method", "POST"),
        (":scheme", scheme),
        (":path", SESSION_PATH),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *metadata,
    ]
    return [(name.encode(), value.encode()) for name, value in fields]


class _SessionCall:
    """A ``Control/Session`` call as a `MessageStream`; the handler of its HTTP/2 stream.

    Flow-control credit is returned when data is read, so at most one window is buffered here.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._deframer = Deframer()
        self._data = bytearray()
        self._water = HighWater()
        self._credit = 0
        self._has_ended = False
        self._failure: Exception | None = None
        self._readable = asyncio.Event()
        stream.handler = self

    async def read(self) -> control_pb2.BytesMessage | None:
        """See `MessageStream.read`."""
        while not self._data and not self._has_ended:
            self._readable.clear()
            await self._readable.wait()
        if self._data:
            message = control_pb2.BytesMessage(data=bytes(self._data))
            self._data.clear()
            credit, self._credit = self._credit, 0
            self._stream.give_credit(credit)
            return message
        if self._failure is not None:
            raise self._failure
        return None

    async def write(self, message: control_pb2.BytesMessage, /) -> None:
        """See `MessageStream.write`."""
        self._stream.send_data(frame_bytes([message.data]))
        self._water.note(0 if self._has_ended else self._stream.queued)
        await self._water.low()
        if self._has_ended:
            raise self._failure or EOFError

    def on_headers(self, headers: Headers, *, end: bool) -> None:
        """See `StreamHandler.on_headers`."""
        if end:
            found = end_of_trailers(headers)
            self._end(None if found.code is grpc.StatusCode.OK else found.error())

    def on_data(self, pieces: Sequence[bytes | memoryview], credit: int, *, end: bool) -> None:
        """See `StreamHandler.on_data`."""
        try:
            for data in () if self._has_ended else pieces:
                for piece in self._deframer.feed(data):
                    self._data += piece  # a slice would keep the whole receive buffer alive
        except ProtocolError as error:
            self._end(UnavailableError(f"the session's stream cannot be read: {error}"))
        self._credit += credit
        self._readable.set()
        if end:
            self._end(UnavailableError("the session's stream has ended without a status"))

    def on_reset(self, code: int) -> None:
        """See `StreamHandler.on_reset`."""
        self._end(UnavailableError("the daemon has ended the session's connection"))

    def on_progress(self) -> None:
        """See `StreamHandler.on_progress`."""
        self._water.note(self._stream.queued)

    def _end(self, failure: Exception | None) -> None:
        if not self._has_ended:
            self._has_ended, self._failure = True, failure
            self._readable.set()
            self._water.open()
