"""A gRPC channel over an HTTP/2 connection of `exporter.rpc.http2`, for generated stubs.

gRPC for Python does not accept custom transports, so its channels cannot make calls over a session's stream.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio

from exporter.rpc.frame_call import Deserialize, FrameCall, Serialize
from exporter.rpc.http2.calling import Caller, OutgoingCall
from exporter.rpc.http2.grpc import Metadata
from exporter.rpc.http2.messages import MAX_MESSAGE_BYTES

__all__ = ["FrameChannel"]

_Q = TypeVar("_Q")
_A = TypeVar("_A")

_KEY = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(r"[\x20-\x7e]*")

_LOG = logging.getLogger(__name__)


class FrameChannel(grpc.aio.Channel):
    """A channel, without gRPC's credentials, compression, interceptors and reconnecting.

    Args:
        caller: Makes the calls. Several channels can share it.
        max_message_bytes: Maximum size of a response; a larger one ends its call with RESOURCE_EXHAUSTED.
    """

    def __init__(self, caller: Caller, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._caller = caller
        self._max_message_bytes = max_message_bytes
        self._calls: set[OutgoingCall] = set()
        self._senders: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Refuse new calls, and cancel the calls in flight. The connection stays open.

        Args:
            grace: Seconds to wait for calls in flight before they are cancelled.
        """
        self._is_closed = True
        if grace and self._calls:
            ends = [asyncio.ensure_future(call.ended()) for call in self._calls]
            await asyncio.wait(ends, timeout=grace)
            for end in ends:
                end.cancel()
        for call in list(self._calls):
            call.cancel()
        for sender in self._senders:
            sender.cancel()
        if self._senders:
            await asyncio.wait(self._senders)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return whether calls can be made."""
        if self._is_closed or self._caller.is_closed:
            return grpc.ChannelConnectivity.SHUTDOWN
        return grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the connection is closed. Return at once if the state already differs."""
        if self.get_state() is last_observed_state:
            await self._caller.wait_closed()

    async def channel_ready(self) -> None:
        """Return at once: the connection already exists."""

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[_Q], bytes] | None = None,
        response_deserializer: Callable[[bytes], _A] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryUnaryMultiCallable[_Q, _A]:
        """Return a method with one request and one response."""
        return _UnaryUnary(self, method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[_Q], bytes] | None = None,
        response_deserializer: Callable[[bytes], _A] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryStreamMultiCallable[_Q, _A]:
        """Return a method with one request and many responses."""
        return _UnaryStream(self, method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[_Q], bytes] | None = None,
        response_deserializer: Callable[[bytes], _A] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamUnaryMultiCallable[_Q, _A]:
        """Return a method with many requests and one response."""
        return _StreamUnary(self, method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[_Q], bytes] | None = None,
        response_deserializer: Callable[[bytes], _A] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamStreamMultiCallable[_Q, _A]:
        """Return a method with many requests and many responses."""
        return _StreamStream(self, method, request_serializer, response_deserializer)

    def begin(
        self,
        method: str,
        serialize: Serialize | None,
        deserialize: Deserialize | None,
        words: dict[str, Any],
    ) -> FrameCall[Any, Any]:
        """Begin a call.

        Raises:
            ValueError: a key or a value of the metadata is not valid in a header.
        """
        metadata = _checked(words.get("metadata") or ())
        timeout = words.get("timeout")
        if self._is_closed:
            raise grpc.aio.UsageError("the channel is closed")
        calls: list[FrameCall[Any, Any]] = []

        def on_end(ended: OutgoingCall) -> None:
            self._calls.discard(ended)
            for call in calls:
                call.note_end()

        outgoing = self._caller.call(
            method,
            metadata=metadata,
            timeout=timeout,
            max_message_bytes=self._max_message_bytes,
            on_end=on_end,
        )
        if outgoing.end is None:
            self._calls.add(outgoing)
        call: FrameCall[Any, Any] = FrameCall(outgoing, serialize, deserialize)
        calls.append(call)
        return call

    def send_all(self, call: FrameCall[Any, Any], requests: AsyncIterable[Any] | Iterable[Any]) -> None:
        """Start a task that sends the requests of a call. The task ends with the call."""
        sender = asyncio.get_running_loop().create_task(call.send_all(requests), name="requests of a call")
        self._senders.add(sender)

        def stop(_: object) -> None:
            sender.cancel()

        call.add_done_callback(stop)
        sender.add_done_callback(self._sent)

    def _sent(self, sender: asyncio.Task[None]) -> None:
        self._senders.discard(sender)
        if not sender.cancelled() and (error := sender.exception()) is not None:
            _LOG.debug("the requests of a call have failed, which cancels it", exc_info=error)


class _Method:
    def __init__(
        self, channel: FrameChannel, path: str, serialize: Serialize | None, deserialize: Deserialize | None
    ) -> None:
        self._channel = channel
        self._path = path
        self._serialize = serialize
        self._deserialize = deserialize

    def _unary(self, request: Any, words: dict[str, Any]) -> FrameCall[Any, Any]:
        call = self._channel.begin(self._path, self._serialize, self._deserialize, words)
        call.send(request)
        call.send_end()
        return call

    def _stream(
        self, requests: AsyncIterable[Any] | Iterable[Any] | None, words: dict[str, Any]
    ) -> FrameCall[Any, Any]:
        call = self._channel.begin(self._path, self._serialize, self._deserialize, words)
        if requests is not None:
            self._channel.send_all(call, requests)
        return call


class _UnaryUnary(_Method, grpc.aio.UnaryUnaryMultiCallable[_Q, _A]):
    def __call__(self, request: _Q, **words: Any) -> FrameCall[_Q, _A]:
        return self._unary(request, words)


class _UnaryStream(_Method, grpc.aio.UnaryStreamMultiCallable[_Q, _A]):
    def __call__(self, request: _Q, **words: Any) -> FrameCall[_Q, _A]:
        return self._unary(request, words)


# gRPC 1.75 cannot subscript these two when the program runs.
class _StreamUnary(_Method, grpc.aio.StreamUnaryMultiCallable):  # type: ignore[type-arg]
    def __call__(
        self,
        request_iterator: AsyncIterator[Any] | Iterator[Any] | None = None,
        timeout: float | None = None,
        metadata: Any = None,
        *_: Any,
        **__: Any,
    ) -> FrameCall[Any, Any]:
        return self._stream(request_iterator, {"timeout": timeout, "metadata": metadata})


class _StreamStream(_Method, grpc.aio.StreamStreamMultiCallable):  # type: ignore[type-arg]
    def __call__(
        self,
        request_iterator: AsyncIterator[Any] | Iterator[Any] | None = None,
        timeout: float | None = None,
        metadata: Any = None,
        *_: Any,
        **__: Any,
    ) -> FrameCall[Any, Any]:
        return self._stream(request_iterator, {"timeout": timeout, "metadata": metadata})


def _checked(metadata: Iterable[tuple[str, str | bytes]]) -> Metadata:
    found = tuple(metadata)
    for key, value in found:
        is_said = isinstance(value, bytes) if key.endswith("-bin") else isinstance(value, str)
        if not is_said or not _KEY.fullmatch(key) or (isinstance(value, str) and not _TEXT.fullmatch(value)):
            raise ValueError(f"metadata that cannot be sent: {key!r}")
    return found
