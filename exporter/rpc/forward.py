"""Forwarding gRPC calls of any service unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import grpc
import grpc.aio

from exporter.rpc.calls import StreamCall
from exporter.rpc.http2.grpc import Metadata
from exporter.rpc.session.handling import Context

_NO_DEADLINE = 10 * 365 * 24 * 3600.0
"""Seconds; gRPC reports a missing deadline as one in hundreds of years."""

_HOP_BY_HOP = ("grpc-", "user-agent", ":", "te", "content-type")
"""Metadata of a connection rather than a call; gRPC creates its own."""


class Call(Context, Protocol):
    """A call that came in, as gRPC (`grpc.aio.ServicerContext`) and `ServedCall` have it."""

    def time_remaining(self) -> float | None:
        """Return the remaining time until the caller's deadline in seconds; None without a deadline."""
        ...

    def set_code(self, code: grpc.StatusCode, /) -> None:
        """Set the status code."""
        ...

    def set_details(self, details: str, /) -> None:
        """Set the status message."""
        ...

    def set_trailing_metadata(self, trailing_metadata: Metadata, /) -> None:
        """Set the trailing metadata."""
        ...


def forwarded_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
    """The metadata of a call without that of its connection."""
    return tuple(
        (key, value) for key, value in metadata or () if key == _DETAILS or not key.startswith(_HOP_BY_HOP)
    )


_DETAILS = "grpc-status-details-bin"


def timeout_of(context: Call) -> float | None:
    """The remaining time until the caller's deadline in seconds; None without a deadline."""
    remaining = context.time_remaining()
    return None if remaining is None or remaining > _NO_DEADLINE else max(remaining, 0.0)


async def forward(
    channel: grpc.aio.Channel,
    method: str,
    context: Call,
    *,
    first: bytes | None = None,
    change: Callable[[bytes], bytes] = lambda message: message,
) -> None:
    """Forward a call: its metadata, deadline and messages, and the answer's metadata, messages and status.

    A call with one request, or one response, looks on the wire like a stream of one message.

    Args:
        channel: The channel to forward to.
        method: ``/package.Service/Method``.
        context: The incoming call, whose messages are bytes.
        first: A message that has already been read from it.
        change: Rewrites a response message.
    """
    method_of_bytes: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
    metadata, timeout = forwarded_metadata(context.invocation_metadata()), timeout_of(context)
    call = StreamCall(method_of_bytes(metadata=metadata, timeout=timeout))
    requests = asyncio.create_task(_forward_requests(context, call, first), name=f"requests of {method}")
    try:
        await context.send_initial_metadata(forwarded_metadata(await call.initial_metadata()))
        while (message := await call.read()) is not grpc.aio.EOF:
            await context.write(change(message))
        await _end(context, *await call.status())
    except grpc.aio.AioRpcError as error:
        await _end(context, error.code(), error.details(), error.trailing_metadata())
    finally:
        requests.cancel()
        call.cancel()
        await asyncio.wait((requests,))


async def end_like(call: Any, context: Call) -> None:
    """End a call with the status, details and trailing metadata of another."""
    await _end(context, await call.code(), await call.details(), await call.trailing_metadata())


async def _end(context: Call, code: grpc.StatusCode, details: str | None, trailers: Any) -> None:
    context.set_trailing_metadata(forwarded_metadata(trailers))
    context.set_code(code)
    context.set_details(details or "")


async def _forward_requests(context: Call, call: StreamCall, first: bytes | None) -> None:
    """Forward requests until there are no more, or the call ends; its status says why."""
    if first is not None and not await call.send(first):
        return
    while (message := await context.read()) is not grpc.aio.EOF:
        if not await call.send(message):
            return
    await call.send_end()
