"""A session's services on HTTP/2 frames, from generated code or our own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any, NoReturn, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from exporter.errors import InvalidArgumentError
from exporter.rpc.answering import Answer
from exporter.rpc.http2.grpc import Metadata, metadata_of, path_of
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.served import ServedCall
from exporter.rpc.parsing import counting
from exporter.rpc.session.handling import StreamMethods

Attachable = Callable[[grpc.aio.Server], None]
"""Adds a service to a server (upstream: ``session.Attachable``), such as
``lambda server: add_ContentServicer_to_server(servicer, server)``."""


class SessionServices(StreamMethods):
    """Collects services. Stands in for a `grpc.aio.Server`.

    Attributes:
        generic: The services, as passed to `grpc.aio.Server.add_generic_rpc_handlers`.
        methods: All methods with known names, as ``/package.Service/Method``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.generic: list[grpc.GenericRpcHandler] = []
        self._registered: list[str] = []

    @classmethod
    def of(cls, attachables: Iterable[Attachable]) -> SessionServices:
        """Collect the services that these functions add."""
        services = cls()
        for attachable in attachables:
            attachable(cast(grpc.aio.Server, services))
        return services

    @property
    def methods(self) -> tuple[str, ...]:
        """See the class."""
        return (*self._registered, *self.handlers)

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """See `grpc.aio.Server.add_generic_rpc_handlers`."""
        self.generic.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """See `grpc.aio.Server.add_registered_method_handlers`. The names for `methods` come from here."""
        self._registered.extend(f"/{service}/{method}" for method in handlers)

    def find(self, headers: Headers, elsewhere: Answer) -> Answer | None:
        """Find the function that answers a call; None if there is no such method.

        Args:
            headers: The call's headers.
            elsewhere: Answers calls whose handlers would block the event loop.
        """
        method = path_of(headers)
        if (handler := self.handlers.get(method)) is not None:
            return partial(handler, None)
        details = cast(grpc.HandlerCallDetails, _CallDetails(method, metadata_of(headers)))
        for generic in self.generic:
            found: grpc.RpcMethodHandler[Any, Any] | None = generic.service(details)
            if found is not None:
                behaviour = _behaviour_of(found)
                is_ours = isasyncgenfunction(behaviour) or iscoroutinefunction(behaviour)
                return partial(_answer, found, behaviour) if is_ours else elsewhere
        return None


@dataclass(frozen=True, slots=True)
class _CallDetails:
    method: str
    invocation_metadata: Metadata


def _behaviour_of(handler: grpc.RpcMethodHandler[Any, Any]) -> Any:
    requests = "stream" if handler.request_streaming else "unary"
    return getattr(handler, f"{requests}_{'stream' if handler.response_streaming else 'unary'}")


async def _answer(handler: grpc.RpcMethodHandler[Any, Any], behaviour: Any, call: ServedCall) -> None:
    """Answer a call with an asynchronous handler. Always closes its iterator of responses."""
    context = ServedContext(call, handler.request_deserializer, handler.response_serializer)
    try:
        request = context if handler.request_streaming else await context.request()
        if isasyncgenfunction(behaviour):
            async with aclosing(behaviour(request, context)) as responses:
                async for response in responses:
                    await context.write(response)
            return
        response = await behaviour(request, context)
        if not handler.response_streaming:
            await context.write(response)
    finally:
        context.note_end()


class ServedContext(grpc.aio.ServicerContext[Any, Any]):
    """A handler's context, with deserialized messages. Also the iterator over the requests.

    Args:
        call: The call.
        deserialize: Converts bytes to requests.
        serialize: Converts responses to bytes.
    """

    def __init__(
        self,
        call: ServedCall,
        deserialize: Callable[[bytes], Any] | None,
        serialize: Callable[[Any], bytes] | None,
    ) -> None:
        self._call = call
        self._deserialize = None if deserialize is None else counting(deserialize)
        self._serialize = serialize
        self._code, self._details = grpc.StatusCode.OK, ""
        self._trailers: Metadata = ()
        self._callbacks: list[Callable[[Any], None]] = []

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if (request := await self.read()) is grpc.aio.EOF:
            raise StopAsyncIteration
        return request

    async def request(self) -> Any:
        """Return the request of a call that has only one.

        Raises:
            InvalidArgumentError: the call has no request.
        """
        if (request := await self.read()) is grpc.aio.EOF:
            raise InvalidArgumentError("the call has no request")
        return request

    async def read(self) -> Any:
        """See `grpc.aio.ServicerContext.read`.

        Raises:
            InvalidArgumentError: the message cannot be parsed.
            ResourceExhaustedError: it has too many fields.
            UnavailableError: the caller ended the call early.
        """
        data = await self._call.read()
        if not isinstance(data, bytes) or self._deserialize is None:
            return data
        try:
            return self._deserialize(data)
        except DecodeError as error:
            raise InvalidArgumentError(f"a message cannot be read: {error}") from error

    async def write(self, message: Any) -> None:
        """See `grpc.aio.ServicerContext.write`.

        Raises:
            UnavailableError: the caller ended the call early.
        """
        await self._call.write(message if self._serialize is None else self._serialize(message))

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """See `grpc.aio.ServicerContext.send_initial_metadata`."""
        await self._call.send_initial_metadata(tuple(initial_metadata))

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        """See `grpc.aio.ServicerContext.abort`."""
        trailers = tuple(trailing_metadata) or self._trailers
        self._code, self._details, self._trailers = code, details, trailers
        await self._call.abort(code, details, trailers)

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """See `grpc.aio.ServicerContext.abort_with_status`."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    def invocation_metadata(self) -> grpc.aio.Metadata:
        """See `grpc.aio.ServicerContext.invocation_metadata`."""
        return grpc.aio.Metadata(*self._call.invocation_metadata())

    def set_code(self, code: grpc.StatusCode) -> None:
        """See `grpc.aio.ServicerContext.set_code`."""
        self._code = code
        self._call.set_code(code)

    def set_details(self, details: str) -> None:
        """See `grpc.aio.ServicerContext.set_details`."""
        self._details = details
        self._call.set_details(details)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """See `grpc.aio.ServicerContext.set_trailing_metadata`."""
        self._trailers = tuple(trailing_metadata)
        self._call.set_trailing_metadata(self._trailers)

    def code(self) -> grpc.StatusCode:
        """Return the code that was set."""
        return self._code

    def details(self) -> str:
        """Return the details that were set."""
        return self._details

    def trailing_metadata(self) -> grpc.aio.Metadata:
        """Return the metadata that was set."""
        return grpc.aio.Metadata(*self._trailers)

    def time_remaining(self) -> float:
        """Return the seconds until the deadline; infinite if the caller has set none."""
        remaining = self._call.time_remaining()
        return float("inf") if remaining is None else remaining

    def add_done_callback(self, callback: Any) -> None:
        """Add a function that is called with this context when the call has ended."""
        self._callbacks.append(callback)

    def note_end(self) -> None:
        """Run the callbacks of `add_done_callback`."""
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._call.done()

    def cancelled(self) -> bool:
        """Whether the caller has ended the call early."""
        return self._call.done()

    def peer(self) -> str:
        """Return a constant: a session has a single peer, without an address."""
        return "session"

    def peer_identities(self) -> Sequence[bytes] | None:
        """Return None: sessions have no peer identities."""
        return None

    def peer_identity_key(self) -> str | None:
        """Return None: sessions have no peer identities."""
        return None

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """Return an empty mapping: sessions have no authentication."""
        return {}

    def set_compression(self, compression: grpc.Compression) -> None:
        """Do nothing: sessions do not compress messages."""

    def disable_next_message_compression(self) -> None:
        """Do nothing: sessions do not compress messages."""
