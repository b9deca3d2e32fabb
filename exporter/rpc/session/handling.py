"""Handlers of streaming calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol, Self

import grpc
import grpc.aio

from exporter.rpc.http2.grpc import Metadata
from exporter.rpc.status import Abortable


class Context(Abortable, Protocol):
    """A handler's view of its call: `grpc.aio.ServicerContext` or `ServedCall`. Messages are bytes."""

    def invocation_metadata(self) -> Any:
        """Return the caller's metadata: keys with text or bytes; None if there is none."""
        ...

    async def read(self) -> Any:
        """Return the next message, or `grpc.aio.EOF`."""
        ...

    async def write(self, message: bytes, /) -> None:
        """Send a message; wait while the caller is slow."""
        ...

    async def send_initial_metadata(self, initial_metadata: Metadata, /) -> None:
        """Send metadata ahead of any message."""
        ...


Handler = Callable[[object, Context], Awaitable[None]]
"""Handles a streaming call whose messages are bytes. Requests are read from the context; ignore the first
argument."""


class StreamMethods:
    """Collects streaming methods that are handled without gRPC. Stands in for a server.

    Attributes:
        handlers: The handlers, by ``/package.Service/Method``.
    """

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}


def add_stream_method(server: grpc.aio.Server, service: str, method: str, handler: Handler) -> None:
    """Add a service with one streaming method to a server.

    Generated code allows one message type per method and direction. Some session methods use two, or one that
    is cheaper to parse by hand.
    """
    if isinstance(server, StreamMethods):
        server.handlers[f"/{service}/{method}"] = handler
        return
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]]
    handlers = {method: grpc.stream_stream_rpc_method_handler(handler)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_registered_method_handlers(service, handlers)


class HandlerStream:
    """A call that we handle, as a stream. Several tasks may write to it, and may be cancelled while they do.

    A message in flight cannot be taken back. So a cancelled write continues, and the next write and the end
    of the block wait for it. Otherwise gRPC would never end the call.

    Args:
        context: The call's context; messages are bytes.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._writing: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._settle()

    async def read(self) -> object:
        """Return the next message; at the end, something other than bytes."""
        return await self._context.read()

    async def start(self, metadata: tuple[tuple[str, str | bytes], ...]) -> None:
        """Send the initial metadata. Call this before the first message, which would send empty metadata."""
        await self._send(lambda: self._context.send_initial_metadata(metadata))

    async def write(self, *messages: bytes) -> None:
        """Send messages in order; wait while the peer is slow."""
        await self._send(partial(self._write, messages))

    async def _write(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            await self._context.write(message)

    async def _send(self, send: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with self._turn:
            await self._settle()
            self._writing = asyncio.create_task(send(), name="write to a call")
            await asyncio.shield(self._writing)

    async def _settle(self) -> None:
        if self._writing is not None:
            await asyncio.wait((self._writing,))
            if not self._writing.cancelled():
                self._writing.exception()  # mark it as retrieved; the writer has it, and the call has ended
