"""gRPC calls at the level of frames: the client. Messages are bytes; `exporter.rpc.channel` adds the rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import grpc
import grpc.aio

from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.ending import CallEnd, end_of_answer, end_of_reset, end_of_trailers
from exporter.rpc.http2.frames import ErrorCode, ProtocolError
from exporter.rpc.http2.grpc import Metadata, metadata_headers, metadata_of
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.messages import (
    MAX_MESSAGE_BYTES,
    HeldError,
    MessageError,
    MessageReader,
    message_pieces,
)
from exporter.rpc.http2.stream import Stream
from exporter.rpc.http2.water import HighWater

CLOSED = "the connection is closed"
"""The status details of calls that end with their connection."""

_TIMEOUT_LIMIT = 10**8  # a timeout has at most eight digits


class OutgoingCall:
    """An outgoing call, and the handler of its stream. Created by `Caller.call`.

    Only the coroutines block. Several tasks may write and read.

    Args:
        headers: The request headers.
        timeout: The deadline in seconds from now; None for no deadline.
        max_message_bytes: The size limit for received messages.
        on_end: Called once, when the call has ended.

    Attributes:
        end: The call's status; None while it is running.
        is_cancelled: Whether `cancel` ended the call.
    """

    def __init__(
        self,
        headers: Headers,
        *,
        timeout: float | None,
        max_message_bytes: int,
        on_end: Callable[[OutgoingCall], None],
    ) -> None:
        self.headers = headers
        self.end: CallEnd | None = None
        self.is_cancelled = False
        self._on_end = on_end
        self._max_message_bytes = max_message_bytes
        self._stream: Stream | None = None
        self._reader: MessageReader | None = None
        self._is_half_closed = False
        self._initial: Metadata = ()
        self._has_answer = False
        self._answered, self._ended = asyncio.Event(), asyncio.Event()
        self._readable = asyncio.Event()
        self._water = HighWater()
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        if timeout is not None:
            self._deadline = time.monotonic() + timeout
            self._timer = asyncio.get_running_loop().call_later(max(timeout, 0.0), self._expire)

    # The caller's side.

    def start(self, stream: Stream) -> None:
        """Attach the stream, which was opened with `headers`. It may still wait for the peer's limit."""
        self._stream = stream
        self._reader = MessageReader(stream, self._max_message_bytes)
        stream.handler = self

    def send(self, message: bytes) -> None:
        """Queue a message, without waiting. Does nothing if the call has ended.

        Raises:
            asyncio.InvalidStateError: `send_end` was called before.
        """
        if self.end is not None:
            return
        if self._is_half_closed:
            raise asyncio.InvalidStateError("the last message of the call has been sent")
        assert self._stream is not None
        self._stream.send_pieces(message_pieces(message))

    async def writable(self) -> bool:
        """Wait until the peer has read enough (backpressure). Returns False if the call has ended."""
        self._water.note(self._unsent())
        await self._water.low()
        return self.end is None

    def send_end(self) -> None:
        """Half-close the call: no message follows."""
        if not self._is_half_closed:
            self._is_half_closed = True
            if self._stream is not None:
                self._stream.send_data(b"", end=True)

    async def read(self) -> bytes | None:
        """Return the next message; None after the last one, when the call has ended."""
        while self._reader is None or not self._reader:
            if self.end is not None:
                return None
            self._readable.clear()
            await self._readable.wait()
        try:
            return self._reader.pop()
        except HeldError as error:
            self._give_up(CallEnd(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)))
            return None

    async def initial_metadata(self) -> Metadata:
        """Wait for the initial metadata. It is empty if the call ended without any."""
        await self._answered.wait()
        return self._initial

    @property
    def initial(self) -> Metadata:
        """The initial metadata; empty if it has not arrived."""
        return self._initial

    @property
    def is_over(self) -> bool:
        """Whether the call has ended."""
        return self.end is not None

    async def ended(self) -> CallEnd:
        """Wait for the call's end."""
        await self._ended.wait()
        assert self.end is not None
        return self.end

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline; None if there is none."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    def cancel(self) -> bool:
        """Cancel the call and drop its unread messages. Returns False if it had ended already."""
        if self.end is not None:
            return False
        self.is_cancelled = True
        self._give_up(CallEnd(grpc.StatusCode.CANCELLED, "the call was cancelled here"))
        if self._reader is not None:
            self._reader.discard()
        return True

    def fail(self, end: CallEnd) -> None:
        """End a call for which no stream can be opened."""
        self._finish(end)

    # The peer's side.

    def on_headers(self, headers: Headers, *, end: bool) -> None:
        """See `StreamHandler.on_headers`."""
        if self.end is not None:
            return
        if end:
            found = end_of_trailers(headers)
            assert self._reader is not None
            if found.code is grpc.StatusCode.OK and self._reader.is_within_message:
                found = CallEnd(grpc.StatusCode.INTERNAL, "a message is cut off")
            self._give_up(found, ErrorCode.NO_ERROR)
        elif not self._has_answer:
            foreign = end_of_answer(headers)
            if foreign is not None:
                self._give_up(foreign)
                return
            self._has_answer = True
            self._initial = tuple((k, v) for k, v in metadata_of(headers) if k != "content-type")
            self._answered.set()

    def on_data(self, pieces: Sequence[bytes | memoryview], credit: int, *, end: bool) -> None:
        """See `StreamHandler.on_data`."""
        assert self._reader is not None
        if self.end is not None:
            self._reader.discard(credit)
            return
        try:
            self._reader.feed(pieces, credit)
        except MessageError as error:
            kind = grpc.StatusCode.RESOURCE_EXHAUSTED if error.is_too_large else grpc.StatusCode.INTERNAL
            self._give_up(CallEnd(kind, str(error)))
            return
        self._readable.set()
        if end:
            self._give_up(CallEnd(grpc.StatusCode.INTERNAL, "the call has ended without a status"))

    def on_reset(self, code: int) -> None:
        """See `StreamHandler.on_reset`."""
        assert self._stream is not None
        is_lost = self._stream.connection.is_closed
        self._finish(CallEnd(grpc.StatusCode.UNAVAILABLE, CLOSED) if is_lost else end_of_reset(code))

    def on_progress(self) -> None:
        """See `StreamHandler.on_progress`."""
        self._water.note(self._unsent())

    def _unsent(self) -> int:
        """The bytes queued for the peer; 0 if the call has ended, so that writers stop waiting."""
        return 0 if self.end is not None or self._stream is None else self._stream.queued

    def _expire(self) -> None:
        if self.end is None:
            self._give_up(CallEnd(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))

    def _give_up(self, end: CallEnd, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """End the call and drop what is still queued on its stream."""
        if self._stream is not None:
            self._stream.abort(code)
        self._finish(end)

    def _finish(self, end: CallEnd) -> None:
        if self.end is not None:
            return
        self.end = end
        if self._timer is not None:
            self._timer.cancel()
        if self._reader is not None:
            self._reader.release()
        for event in (self._answered, self._ended, self._readable):
            event.set()
        self._water.open()
        self._on_end(self)


class Caller:
    """Makes calls over a connection. Calls above the peer's MAX_CONCURRENT_STREAMS wait for earlier ones.

    Args:
        connection: A client connection. The caller does not close it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._closed = asyncio.Event()
        self._on_closed = connection.on_closed
        connection.on_closed = self._note_closed

    @property
    def is_closed(self) -> bool:
        """Whether the connection is closed."""
        return self._connection.is_closed

    async def wait_closed(self) -> None:
        """Wait until the connection is closed."""
        await self._closed.wait()

    def call(
        self,
        method: str,
        *,
        metadata: Metadata = (),
        timeout: float | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        on_end: Callable[[OutgoingCall], None],
    ) -> OutgoingCall:
        """Start a call.

        Args:
            method: ``/package.Service/Method``.
            metadata: The initial metadata.
            timeout: The deadline in seconds from now; None for no deadline.
            max_message_bytes: The size limit for received messages.
            on_end: Called once when the call has ended, for any reason; before this returns, if the
                connection is closed.
        """
        call = OutgoingCall(
            _headers(method, metadata, timeout),
            timeout=timeout,
            max_message_bytes=max_message_bytes,
            on_end=on_end,
        )
        try:
            call.start(self._connection.open_stream(call.headers, end=False))
        except ProtocolError as error:
            text = CLOSED if self._connection.is_closed else str(error)
            call.fail(CallEnd(grpc.StatusCode.UNAVAILABLE, text))
        return call

    def _note_closed(self, error: Exception | None) -> None:
        self._closed.set()
        if self._on_closed is not None:
            self._on_closed(error)


def _headers(method: str, metadata: Metadata, timeout: float | None) -> Headers:
    headers: Headers = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", method.encode()),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
    if timeout is not None:
        headers.append((b"grpc-timeout", _timeout(timeout)))
    return headers + metadata_headers(metadata)


def _timeout(seconds: float) -> bytes:
    """Format ``grpc-timeout`` (gRPC over HTTP/2): the finest unit that fits into eight digits, rounded up."""
    for unit, parts in (("u", 1e6), ("m", 1e3), ("S", 1.0)):
        value = max(int(-(-seconds * parts // 1)), 0)
        if value < _TIMEOUT_LIMIT:
            return f"{value}{unit}".encode()
    return f"{min(int(seconds // 3600), _TIMEOUT_LIMIT - 1)}H".encode()
