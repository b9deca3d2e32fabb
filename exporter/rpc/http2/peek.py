"""Looking at the first message of a call before it is decided where the call goes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from exporter.rpc.answering import Answer, Answering
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.relay import relay
from exporter.rpc.http2.stream import Stream

MAX_PEEK_BYTES = 64 << 20
"""Longest message that is looked at. It is held in memory."""

_PREFIX = struct.Struct(">BL")


class Peek:
    """A call whose first message is awaited; handles its stream until `pass_on` or `answer`.

    Args:
        stream: The call's stream.
        headers: Its headers.
        end: Whether nothing follows them.
        decide: Is given the message, or None if there is none that can be looked at.
    """

    def __init__(
        self, stream: Stream, headers: Headers, end: bool, decide: Callable[[Peek, bytes | None], None]
    ) -> None:
        self._stream = stream
        self._headers = headers
        self._decide = decide
        self._data = bytearray()
        self._has_ended = end
        self._is_decided = False
        self.is_reset = False
        stream.handler = self
        if end:
            self._finish(None)

    def pass_on(self, to: Connection) -> None:
        """Pass the call on, with what has come of it."""
        if self.is_reset:
            return
        relay(self._stream, self._headers, to, end=self._has_ended and not self._data)
        handler = self._stream.handler
        if self._data and handler is not self and handler is not None:
            handler.on_data([bytes(self._data)], 0, end=self._has_ended)

    def answer(self, answering: Answering, answer: Answer) -> None:
        """Have the call answered here, with what has come of it."""
        if not self.is_reset:
            answering.answer(
                self._stream,
                self._headers,
                answer,
                end=self._has_ended,
                first=bytes(self._data),
                max_message_bytes=MAX_PEEK_BYTES,
            )

    def on_headers(self, headers: Headers, *, end: bool) -> None:
        """See `StreamHandler.on_headers`."""
        self._has_ended = self._has_ended or end
        self._look()

    def on_data(self, pieces: Sequence[bytes | memoryview], credit: int, *, end: bool) -> None:
        """See `StreamHandler.on_data`."""
        self._stream.give_credit(credit)
        self._data += b"".join(pieces)
        self._has_ended = end
        self._look()

    def on_reset(self, code: int) -> None:
        """See `StreamHandler.on_reset`."""
        self.is_reset = True

    def on_progress(self) -> None:
        """See `StreamHandler.on_progress`."""

    def _look(self) -> None:
        if self._is_decided:
            return
        if len(self._data) >= _PREFIX.size:
            is_compressed, length = _PREFIX.unpack_from(self._data)
            if is_compressed or length > MAX_PEEK_BYTES:
                self._finish(None)
            elif len(self._data) >= _PREFIX.size + length:
                self._finish(bytes(memoryview(self._data)[_PREFIX.size : _PREFIX.size + length]))
        elif self._has_ended:
            self._finish(None)

    def _finish(self, message: bytes | None) -> None:
        self._is_decided = True
        self._decide(self, message)
