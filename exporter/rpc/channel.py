"""A gRPC channel over an HTTP/2 connection of `exporter.rpc.http2`, for generated stubs.

gRPC for Python takes no transport of one's own, so its channels cannot call through a session's stream.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import grpc
import grpc.aio

from exporter.rpc.http2.calling import Caller, OutgoingCall
from exporter.rpc.http2.ending import CallEnd
from exporter.rpc.http2.grpc import Metadata
from exporter.rpc.http2.messages import MAX_MESSAGE_BYTES

__all__ = ["FrameCall", "FrameChannel"]

_Q = TypeVar("_Q")
_A = TypeVar("_A")
_Serialize = Callable[[Any], bytes]
_Deserialize = Callable[[bytes], Any]

_KEY = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(r"[\x20-\x7e]*")

_LOG = logging.getLogger(__name__)


class FrameCall(
    grpc.aio.UnaryUnaryCall[_Q, _A],
    grpc.aio.UnaryStreamCall[_Q, _A],
    grpc.aio.StreamUnaryCall[_Q, _A],
    grpc.aio.StreamStreamCall[_Q, _A],
):
    """A call, of whatever kind. As with gRPC, waiting for a call that was cancelled here is cancelled, too.

    Unlike gRPC's, `write` keeps the status with which the other side has ended the call, and may be called by
    several tasks.

    Args:
        call: The call.
        serialize: Makes bytes of requests.
        deserialize: Makes responses of bytes.
    """

    def __init__(
        self, call: OutgoingCall, serialize: _Serialize | None, deserialize: _Deserialize | None
    ) -> None:
        self._call = call
        self._serialize = serialize
        self._deserialize = deserialize
        self._callbacks: list[Callable[[Any], None]] = []

    def __aiter__(self) -> AsyncIterator[_A]:
        return self._messages()

    def __await__(self) -> Generator[Any, None, _A]:
        return self._only_response().__await__()

    async def read(self) -> Any:
        """Return the next message, or `grpc.aio.EOF` if the call has ended well.

        Raises:
            grpc.aio.AioRpcError: it has not.
            asyncio.CancelledError: it was cancelled here.
        """
        message = await self._call.read()
        if message is None:
            self._raise_for_end()
            return grpc.aio.EOF
        try:
            return message if self._deserialize is None else self._deserialize(message)
        except Exception as error:
            self._call.cancel()
            raise CallEnd(grpc.StatusCode.INTERNAL, f"a response cannot be read: {error}").error() from error

    async def write(self, request: _Q) -> None:
        """Send a message; wait while the other side is slow. A writer that is cancelled cancels the call.

        Raises:
            grpc.aio.AioRpcError: the call has failed.
            asyncio.InvalidStateError: it has ended well, or `done_writing` came before.
            asyncio.CancelledError: it was cancelled here.
        """
        self.send(request)
        try:
            goes_on = await self._call.writable()
        except asyncio.CancelledError:
            self._call.cancel()
            raise
        if not goes_on:
            self._raise_for_end()
            raise asyncio.InvalidStateError("the other side has ended the call")

    def send(self, request: _Q) -> None:
        """Send a message without waiting."""
        self._call.send(cast(bytes, request) if self._serialize is None else self._serialize(request))

    def send_end(self) -> None:
        """Say that no message follows."""
        self._call.send_end()

    async def done_writing(self) -> None:
        """Say that no message follows."""
        self.send_end()

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Wait for what comes ahead of the first message."""
        return grpc.aio.Metadata(*await self._call.initial_metadata())

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """Wait for the end and return its metadata."""
        return grpc.aio.Metadata(*(await self._call.ended()).trailers)

    async def code(self) -> grpc.StatusCode:
        """Wait for the end and return its status."""
        return (await self._call.ended()).code

    async def details(self) -> str:
        """Wait for the end and return its text."""
        return (await self._call.ended()).details

    async def wait_for_connection(self) -> None:
        """Return if the call has not failed: there is a connection already.

        Raises:
            grpc.aio.AioRpcError: it has.
        """
        if self._call.end is not None:
            self._raise_for_end()

    def cancel(self) -> bool:
        """End the call; returns whether it went on until now."""
        return self._call.cancel()

    def cancelled(self) -> bool:
        """Whether it was ended so."""
        return self._call.is_cancelled

    def done(self) -> bool:
        """Whether it has ended."""
        return self._call.end is not None

    def time_remaining(self) -> float | None:
        """Return the seconds until the call is given up; None for no limit."""
        return self._call.time_remaining()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Have a function called with this call when it has ended."""
        if self.done():
            callback(self)
        else:
            self._callbacks.append(callback)

    def note_end(self) -> None:
        """Call those functions."""
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    async def send_all(self, requests: AsyncIterable[_Q] | Iterable[_Q]) -> None:
        """Send messages until there are no more, or the call has ended."""
        try:
            if isinstance(requests, AsyncIterable):
                async for request in requests:
                    await self.write(request)
            else:
                for request in requests:
                    await self.write(request)
            self._call.send_end()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the call's status tells
        except BaseException:
            self._call.cancel()
            raise

    async def _messages(self) -> AsyncIterator[_A]:
        try:
            while (message := await self.read()) is not grpc.aio.EOF:
                yield message
        except asyncio.CancelledError:
            self._call.cancel()
            raise

    async def _only_response(self) -> _A:
        try:
            message = await self.read()
            if message is not grpc.aio.EOF:
                await self._call.ended()
                self._raise_for_end()
                return cast(_A, message)
        except asyncio.CancelledError:
            self._call.cancel()
            raise
        raise CallEnd(grpc.StatusCode.INTERNAL, "the call has ended well, without a response").error()

    def _raise_for_end(self) -> None:
        if self._call.is_cancelled:
            raise asyncio.CancelledError
        assert self._call.end is not None
        if self._call.end.code is not grpc.StatusCode.OK:
            raise self._call.end.error(self._call.initial)


class FrameChannel(grpc.aio.Channel):
    """A channel. What gRPC has beside it (credentials, compression, interceptors, reconnecting) it has not.

    Args:
        caller: Makes its calls. It can be shared with other channels.
        max_message_bytes: Largest message that is taken; others end their calls as RESOURCE_EXHAUSTED.
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
        """Take no new calls, and cancel those that are under way; the connection stays.

        Args:
            grace: Seconds that they get before.
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
        """Wait until the connection is closed, unless the state is another one already."""
        if self.get_state() is last_observed_state:
            await self._caller.wait_closed()

    async def channel_ready(self) -> None:
        """Return at once: there is a connection already."""

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
        serialize: _Serialize | None,
        deserialize: _Deserialize | None,
        words: dict[str, Any],
    ) -> FrameCall[Any, Any]:
        """Begin a call.

        Raises:
            ValueError: a key or a value of its metadata cannot be said in headers.
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
        """Have a task send the requests of a call; it ends with the call."""
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
        self, channel: FrameChannel, path: str, serialize: _Serialize | None, deserialize: _Deserialize | None
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


class _StreamUnary(_Method, grpc.aio.StreamUnaryMultiCallable[_Q, _A]):
    def __call__(
        self,
        request_iterator: AsyncIterator[_Q] | Iterator[_Q] | None = None,
        timeout: float | None = None,
        metadata: Any = None,
        *_: Any,
        **__: Any,
    ) -> FrameCall[_Q, _A]:
        return self._stream(request_iterator, {"timeout": timeout, "metadata": metadata})


class _StreamStream(_Method, grpc.aio.StreamStreamMultiCallable[_Q, _A]):
    def __call__(
        self,
        request_iterator: AsyncIterator[_Q] | Iterator[_Q] | None = None,
        timeout: float | None = None,
        metadata: Any = None,
        *_: Any,
        **__: Any,
    ) -> FrameCall[_Q, _A]:
        return self._stream(request_iterator, {"timeout": timeout, "metadata": metadata})


def _checked(metadata: Iterable[tuple[str, str | bytes]]) -> Metadata:
    found = tuple(metadata)
    for key, value in found:
        is_said = isinstance(value, bytes) if key.endswith("-bin") else isinstance(value, str)
        if not is_said or not _KEY.fullmatch(key) or (isinstance(value, str) and not _TEXT.fullmatch(value)):
            raise ValueError(f"metadata that cannot be sent: {key!r}")
    return found
