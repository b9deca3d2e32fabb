"""Reading the first message of a call before deciding where to route the call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from exporter.errors import Code
from exporter.rpc.answering import Answer, Answering
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.frames import ErrorCode
from exporter.rpc.http2.grpc import end_with_status
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.messages import HeldError, MessageError, MessageReader
from exporter.rpc.http2.relay import pair
from exporter.rpc.http2.stream import Stream

MAX_PEEK_BYTES = 16 << 20
"""The size limit for the first message in bytes, which is BuildKit's own. The message is buffered."""


class Peek:
    """A call that waits for its first message. Handles the stream until `pass_on` or `answer`.

    Args:
        stream: The call's stream.
        headers: The request headers.
        end: Whether the headers have END_STREAM.
        decide: Called once, with the message, or None if it is missing or cannot be read.
    """

    def __init__(
        self, stream: Stream, headers: Headers, end: bool, decide: Callable[[Peek, bytes | None], None]
    ) -> None:
        self._stream = stream
        self._headers = headers
        self._decide = decide
        self._reader = MessageReader(stream, MAX_PEEK_BYTES)
        self._has_ended = end
        self._is_decided = False
        self.is_reset = False
        stream.handler = self
        if end:
            self._finish(None)

    def pass_on(self, to: Connection) -> None:
        """Relay the call to `to`, including the data received so far."""
        if self.is_reset:
            return
        pieces, credit = self._reader.take()
        held = self._reader.held
        other = pair(self._stream, self._headers, to, end=self._has_ended and not pieces)
        if other is None or not self._stream.hold(held):  # `pair` has released everything held for the stream
            self._stream.fail(ErrorCode.ENHANCE_YOUR_CALM)
        elif pieces:
            other.send_pieces(pieces, held + credit, self._gone, end=self._has_ended)

    def _gone(self, amount: int) -> None:
        """Account for relayed bytes: release held bytes first, then return the credit owed for the rest."""
        held = min(amount, self._stream.held)
        self._stream.release(held)
        if amount > held:
            self._stream.give_credit(amount - held)

    def answer(self, answering: Answering, answer: Answer) -> None:
        """Let `answering` answer the call. The data received so far is counted until the call has ended."""
        if self.is_reset:
            return
        pieces, credit = self._reader.take()
        if not self._stream.hold(credit):
            self._refuse()
            return
        self._stream.give_credit(credit)
        answering.answer(
            self._stream,
            self._headers,
            answer,
            end=self._has_ended,
            first=b"".join(pieces),
            max_message_bytes=MAX_PEEK_BYTES,
        )

    def on_headers(self, headers: Headers, *, end: bool) -> None:
        """See `StreamHandler.on_headers`."""
        self._has_ended = self._has_ended or end
        if not self._is_decided:
            self._finish(self._reader.first)

    def on_data(self, pieces: Sequence[bytes | memoryview], credit: int, *, end: bool) -> None:
        """See `StreamHandler.on_data`."""
        self._has_ended = end
        if self.is_reset:
            self._stream.give_credit(credit)
            return
        is_readable = True
        try:
            self._reader.feed(pieces, credit)
        except HeldError:
            self._refuse()
            return
        except MessageError:
            is_readable = False
        if not self._is_decided and (not is_readable or self._reader.first is not None or end):
            self._finish(self._reader.first)

    def on_reset(self, code: int) -> None:
        """See `StreamHandler.on_reset`."""
        self.is_reset = True
        self._reader.discard()

    def on_progress(self) -> None:
        """See `StreamHandler.on_progress`."""

    def _refuse(self) -> None:
        """End the call, because its first message cannot be buffered."""
        self.is_reset = True
        self._reader.discard()
        text = "too much of large requests waits for its rest, or to be answered, on this connection"
        end_with_status(self._stream, Code.RESOURCE_EXHAUSTED, text)

    def _finish(self, message: bytes | None) -> None:
        self._is_decided = True
        self._decide(self, message)
