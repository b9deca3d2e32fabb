"""Answering a gRPC call frame by frame.

gRPC for Python needs some 100 µs for a message. A build context of many files has four of them for each.
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
"""How long a caller gets to end its side of a call that has been answered."""

_ENDED = "the caller has ended the call"


class ServedCall:
    """A call that is answered here, as far as `grpc.aio.ServicerContext` is needed; handles its stream.

    Messages are bytes. Deadlines are left to the caller, who ends the call when one has passed.

    Args:
        stream: The call's stream.
        headers: Its headers.
        end: Whether no messages come.
        max_message_bytes: Largest message that is taken.

    Attributes:
        method: ``/package.Service/Method``.
        task: What answers it; cancelled if the caller ends the call early.
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
        """Return what the caller says beside messages."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Return the seconds that the caller still waits; None if it has not said how long."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._is_over

    def set_code(self, code: grpc.StatusCode) -> None:
        """Say with which status the call ends."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Say with which text the call ends."""
        self._details = details

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Say with which metadata the call ends."""
        self._trailers = trailing_metadata

    async def read(self) -> object:
        """Return the next message, or `grpc.aio.EOF`.

        Raises:
            InvalidArgumentError: it cannot be read.
            ResourceExhaustedError: it is too large, or there is no memory for it.
            UnavailableError: the call was ended early.
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
        """Send a message; wait while the caller is slow.

        Raises:
            UnavailableError: the call was ended early.
        """
        await self.send_initial_metadata(())
        self._stream.send_pieces(message_pieces(message))
        self._water.note(0 if self._is_over else self._stream.queued)
        await self._water.low()
        if self._is_over:
            raise UnavailableError(_ENDED)

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Send metadata ahead of the first message; after that, this does nothing."""
        if not self._has_begun:
            self._has_begun = True
            self._stream.send_headers([*RESPONSE_HEADERS, *metadata_headers(metadata)])

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()
    ) -> NoReturn:
        """End the call with a status.

        Raises:
            grpc.aio.AbortError: always; let it pass.
        """
        self._code, self._details, self._trailers = code, details, trailing_metadata
        raise grpc.aio.AbortError

    def finish(self) -> None:
        """End the call: with the status that was set, or else well."""
        status = status_headers(self._code, self._details, self._trailers)
        headers = status if self._has_begun else [*RESPONSE_HEADERS, *status]
        self._stream.send_headers(headers, end=True)
        if not self._stream.is_closed:
            # A caller that is still writing sees the status and ends its side. To gRPC's C core, a reset that
            # comes at once is a write that failed.
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._stream.reset, ErrorCode.NO_ERROR)
        self._stop()

    def cancel(self) -> None:
        """End the call without an answer."""
        self._stream.reset(ErrorCode.CANCEL)
        self._stop()

    def on_headers(self, headers: Headers, *, end: bool) -> None:
        """See `StreamHandler.on_headers`."""
        if end:
            self._end()

    def on_data(self, pieces: Sequence[bytes | memoryview], credit: int, *, end: bool) -> None:
        """See `StreamHandler.on_data`."""
        if self._is_over or self._failure is not None:  # an answer is on its way that needs nothing more
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
        """Take no more messages; those that are complete can be read."""
        kind = ResourceExhaustedError if error.is_too_large else InvalidArgumentError
        failure = kind(str(error))
        self._fail(failure)
        self._reader.release()
        return failure

    def _stop(self) -> None:
        """Hold nothing back any more: credit is the connection's, too, which other calls share."""
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
    """When the caller stops waiting (gRPC over HTTP/2: ``grpc-timeout``), by the monotonic clock."""
    for key, value in metadata:
        if (
            key == "grpc-timeout"
            and isinstance(value, str)
            and value[:-1].isdecimal()
            and value[-1] in _UNITS
        ):
            return time.monotonic() + int(value[:-1]) * _UNITS[value[-1]]
    return None
