"""Streaming calls that are handled here."""

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
    """A call that is handled, by gRPC (`grpc.aio.ServicerContext`) or by `ServedCall`. Messages are bytes."""

    def invocation_metadata(self) -> Any:
        """Return what the caller says beside messages: keys, with text or bytes; None if nothing."""
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
"""Handles a streaming call whose messages are bytes. The context reads, so the first argument has no use."""


class StreamMethods:
    """In the place of a server, takes streaming methods that are to be handled without gRPC.

    Attributes:
        handlers: By ``/package.Service/Method``.
    """

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}


def add_stream_method(server: grpc.aio.Server, service: str, method: str, handler: Handler) -> None:
    """Add a service with one streaming method to a server.

    Generated code gives each method one type of message. Some methods of sessions have two, or one that is
    cheaper to read by hand.
    """
    if isinstance(server, StreamMethods):
        server.handlers[f"/{service}/{method}"] = handler
        return
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]]
    handlers = {method: grpc.stream_stream_rpc_method_handler(handler)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_registered_method_handlers(service, handlers)


class HandlerStream:
    """A call that we handle, as a stream that several tasks write to and that survives their cancellation.

    A message that is being written cannot be taken back: a write that is cancelled goes on, the next one
    waits for it, and so does the end of the block. Otherwise gRPC would never end the call.

    Args:
        context: Of the call; its messages are bytes.
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
        """Return the next message, or something else than bytes at the end."""
        return await self._context.read()

    async def start(self, metadata: tuple[tuple[str, str | bytes], ...]) -> None:
        """Send the initial metadata, before any message; otherwise the first one sends none."""
        await self._send(lambda: self._context.send_initial_metadata(metadata))

    async def write(self, *messages: bytes) -> None:
        """Send messages, one after the other; wait while the other side is slow."""
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
                self._writing.exception()  # seen; who waited for the write has it, and the call has ended
