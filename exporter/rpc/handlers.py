"""gRPC servers whose messages are bytes, for methods that are known by their names only."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from exporter.rpc.forward import Context
from exporter.rpc.server import open_server

logger = logging.getLogger(__name__)

RawHandler = Callable[[Context], Awaitable[None]]
"""Handles a call: reads and writes messages as bytes. What it raises becomes the call's status."""

FindHandler = Callable[[str], RawHandler]
"""Finds the handler of ``/package.Service/Method``."""


class _AnyMethod(grpc.GenericRpcHandler):
    def __init__(self, find: FindHandler) -> None:
        self._find = find

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        handler = self._find(handler_call_details.method)

        async def call(request: object, context: Context) -> None:
            try:
                await handler(context)
            except grpc.aio.AbortError:
                raise  # it is how a call ends with a status
            except Exception:
                if not context.done():
                    raise
                # The caller has gone, which writing to it may have told before the cancellation does.
                logger.debug("nobody waits for the answer", exc_info=True)

        return grpc.stream_stream_rpc_method_handler(call)


@asynccontextmanager
async def raw_server(
    find: FindHandler, options: tuple[tuple[str, int], ...]
) -> AsyncIterator[grpc.aio.Server]:
    """Make a server that passes every call to the handler that is found for it. See `open_server`.

    Args:
        find: Finds handlers; there is one for each method.
        options: Of the server.
    """
    async with open_server(options) as server:
        server.add_generic_rpc_handlers((_AnyMethod(find),))
        yield server
