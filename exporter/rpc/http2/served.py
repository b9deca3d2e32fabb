"""gRPC calls at the level of frames: the server.

gRPC's Python library takes about 100 µs per message, and a build context takes four messages per file.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import NoReturn

import grpc
import grpc.aio

from exporter.errors import InvalidArgumentError, ResourceExhaustedError, UnavailableError
from exporter.rpc.http2.frames import ErrorCode
from exporter.rpc.http2.grpc import (
    RESPONSE_HEADERS,
    Metadata,
    metadata_headers,
    metadata_of,
    path_of,
    status_headers,
)
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

LINGER_SECONDS = 1.0
"""How long in seconds the caller may take to half-close a call that has been answered."""

_ENDED = "the caller has ended the call"


class ServedCall:
    """An incoming call, and the handler of its stream. Has the needed part of `grpc.aio.ServicerContext`.

    Messages are bytes. Deadlines are not enforced here: the caller resets the call when its deadline expires.

    Args:
        stream: The call's stream.
        headers: The request headers.
        end: Whether the headers have END_STREAM.
        max_message_bytes: The size limit for received messages.

    Attributes:
        method: ``/package.Service/Method``.
        task: The task that answers the call; cancelled if the caller resets it.
    """

    def __init__(
        self, stream: Stream, headers: Headers, *, end: bool, max_message_bytes: int = MAX_MESSAGE_BYTES
    ) -> None:
        self.method = path_of(headers)
        self.task: asyncio.Task[None] | None = None
        self._stream = stream
        self._metadata = metadata_of(headers)
        self._deadline = _deadline_of(self._metadata)
        self._reader = MessageReader(stream, max_message_bytes)
        self._water = HighWater()
        self._has_ended = end
        self._is_over = False
        self._has_begun = False
        self._code, self._details = grpc.StatusCode.OK, ""
        self._trailers: Metadata = ()
        self._failure: Exception | None = None
        self._readable = asyncio.Event()
        stream.handler = self

    def invocation_metadata(self) -> Metadata:
        """Return the request's metadata."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Return the seconds until the caller's deadline; None if there is none."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._is_over

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the call's status code."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Set the call's status message."""
        self._details = details

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Set the call's trailing metadata."""
        self._trailers = trailing_metadata

    async def read(self) -> object:
        """Return the next message, or `grpc.aio.EOF`.

        Raises:
            InvalidArgumentError: it is compressed or incomplete.
            ResourceExhaustedError: it is too large, or cannot be buffered.
            UnavailableError: the caller has reset the call.
        """
        while not self._reader:
            if self._failure is not None:
                raise self._failure
            if self._has_ended:
                return grpc.aio.EOF
            self._readable.clear()
            await self._readable.wait()
        try:
            return self._reader.pop()
        except HeldError as error:
            raise self._refuse(error) from None

    async def write(self, message: bytes) -> None:
        """Send a message, and wait until the caller has read enough (backpressure).

        Raises:
            UnavailableError: the call has ended.
        """
        await self.send_initial_metadata(())
        self._stream.send_pieces(message_pieces(message))
        self._water.note(0 if self._is_over else self._stream.queued)
        await self._water.low()
        if self._is_over:
            raise UnavailableError(_ENDED)

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Send the response headers with metadata. Does nothing if they have been sent."""
        if not self._has_begun:
            self._has_begun = True
            self._stream.send_headers([*RESPONSE_HEADERS, *metadata_headers(metadata)])

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()
    ) -> NoReturn:
        """End the call with a status.

        Raises:
            grpc.aio.AbortError: always; do not catch it.
        """
        self._code, self._details, self._trailers = code, details, trailing_metadata
        raise grpc.aio.AbortError

    def finish(self) -> None:
        """End the call with the status that was set, by default OK."""
        status = status_headers(self._code, self._details, self._trailers)
        headers = status if self._has_begun else [*RESPONSE_HEADERS, *status]
        self._stream.send_headers(headers, end=True)
        if not self._stream.is_closed:
            # A caller that is still writing gets the status and half-closes. gRPC's C core would report an
            # immediate reset as a failed write.
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._stream.reset, ErrorCode.NO_ERROR)
        self._stop()

    def cancel(self) -> None:
        """Reset the call, without a status."""
        self._stream.reset(ErrorCode.CANCEL)
        self._stop()

    def on_headers(self, headers: Headers, *, end: bool) -> None:
        """See `StreamHandler.on_headers`."""
        if end:
            self._end()

    def on_data(self, pieces: Sequence[bytes | memoryview], credit: int, *, end: bool) -> None:
        """See `StreamHandler.on_data`."""
        if self._is_over or self._failure is not None:  # the call's outcome is decided
            self._reader.discard(credit)
        else:
            try:
                self._reader.feed(pieces, credit)
            except MessageError as error:
                self._refuse(error)
            self._readable.set()
        if end:
            self._end()

    def on_reset(self, code: int) -> None:
        """See `StreamHandler.on_reset`."""
        self._stop()
        self._fail(UnavailableError(_ENDED))
        if self.task is not None:
            self.task.cancel()

    def on_progress(self) -> None:
        """See `StreamHandler.on_progress`."""
        self._water.note(self._stream.queued)

    def _refuse(self, error: MessageError) -> Exception:
        """Accept no more messages. Complete ones can still be read."""
        kind = ResourceExhaustedError if error.is_too_large else InvalidArgumentError
        failure = kind(str(error))
        self._fail(failure)
        self._reader.release()
        return failure

    def _stop(self) -> None:
        """Mark the call as ended, and return all credit: other calls share the connection's part of it."""
        self._is_over = True
        self._reader.release()
        self._water.open()

    def _end(self) -> None:
        self._has_ended = True
        if self._reader.is_within_message:
            self._fail(InvalidArgumentError("a message is cut off"))
        self._readable.set()

    def _fail(self, failure: Exception) -> None:
        self._failure = self._failure or failure
        self._readable.set()


_TIMEOUT = re.compile(r"[0-9]{1,8}[HMSmun]")
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def _deadline_of(metadata: Metadata) -> float | None:
    """The caller's deadline on the monotonic clock (gRPC over HTTP/2: ``grpc-timeout``); None without one."""
    for key, value in metadata:
        if key == "grpc-timeout" and isinstance(value, str) and _TIMEOUT.fullmatch(value):
            return time.monotonic() + int(value[:-1]) * _UNITS[value[-1]]
    return None
