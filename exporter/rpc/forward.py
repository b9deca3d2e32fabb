"""Forwarding gRPC calls as they are, whatever service they belong to."""

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
"""Seconds; gRPC tells of a missing deadline as one that is some hundred years away."""

_HOP_BY_HOP = ("grpc-", "user-agent", ":", "te", "content-type")
"""Metadata of a connection and not of a call; gRPC makes its own."""


class Call(Context, Protocol):
    """A call that came in, as gRPC (`grpc.aio.ServicerContext`) and `ServedCall` have it."""

    def time_remaining(self) -> float | None:
        """Return the seconds that the caller still waits; None if it has not said how long."""
        ...

    def set_code(self, code: grpc.StatusCode, /) -> None:
        """Say with which status the call ends."""
        ...

    def set_details(self, details: str, /) -> None:
        """Say with which text the call ends."""
        ...

    def set_trailing_metadata(self, trailing_metadata: Metadata, /) -> None:
        """Say with which metadata the call ends."""
        ...


def forwarded_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
    """The metadata of a call, without what belongs to its connection."""
    return tuple(
        (key, value) for key, value in metadata or () if key == _DETAILS or not key.startswith(_HOP_BY_HOP)
    )


_DETAILS = "grpc-status-details-bin"


def timeout_of(context: Call) -> float | None:
    """Seconds that the caller still waits; None if he said nothing."""
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
        channel: Where to.
        method: ``/package.Service/Method``.
        context: Of the call that came in, whose messages are bytes.
        first: A message that has been read from it already.
        change: Changes a message of the answer.
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
    """Forward requests until there are no more, or nobody takes them: the call's status tells why."""
    if first is not None and not await call.send(first):
        return
    while (message := await context.read()) is not grpc.aio.EOF:
        if not await call.send(message):
            return
    await call.send_end()
