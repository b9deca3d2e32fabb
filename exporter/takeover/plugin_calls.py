"""What a daemon's side does with the calls of an exporter's server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import grpc.aio

from exporter.errors import UnavailableError
from exporter.pb.buildkit.exporter.v1 import exporter_pb2
from exporter.progress.model import StatusSink, StatusUpdate, Vertex
from exporter.progress.producer import CANCELED, now
from exporter.remotes.messages.results import status_update
from exporter.rpc.status import rpc_errors

M = TypeVar("M", exporter_pb2.ExportResponse, exporter_pb2.FinalizeResponse)


async def follow_call(call: grpc.aio.UnaryStreamCall[Any, M], sink: StatusSink, what: str) -> M:
    """Follow a call of ``ExporterService`` to its end.

    Args:
        call: ``Export`` or ``Finalize``. It is cancelled if this is.
        sink: Is shown the progress. If this is cancelled, vertices that are under way end as cancelled.
        what: The call's purpose, for errors.

    Returns:
        The message that has the result.

    Raises:
        ExporterError: the call has failed.
        UnavailableError: it has ended without a result.
    """
    last: M | None = None
    with _ending_vertices(sink) as report, rpc_errors():
        try:
            async for message in call:
                if message.HasField("result"):
                    last = message
                else:
                    report(status_update(message.progress))
        finally:
            call.cancel()
    if last is None:
        raise UnavailableError(f"the server ended {what} without a result")
    return last


@contextmanager
def _ending_vertices(sink: StatusSink) -> Iterator[StatusSink]:
    """Show vertices as cancelled that are under way when the block is: nobody tells of them any more."""
    running: dict[str, Vertex] = {}

    def report(update: StatusUpdate) -> None:
        for vertex in update.vertexes:
            if vertex.started is not None and vertex.completed is None:
                running[vertex.digest] = vertex
            else:
                running.pop(vertex.digest, None)
        sink(update)

    try:
        yield report
    except asyncio.CancelledError:
        ended = [replace(vertex, completed=now(), error=CANCELED) for vertex in running.values()]
        sink(StatusUpdate(vertexes=tuple(ended)))
        raise
