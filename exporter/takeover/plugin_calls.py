"""Consuming a plugin server's streaming calls, as a daemon does."""

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


async def follow_call(call: grpc.aio.UnaryStreamCall[Any, M], sink: StatusSink, what: str, vertex: str) -> M:
    """Follow a call of ``ExporterService`` to its end.

    Args:
        call: ``Export`` or ``Finalize``. Cancelling this coroutine cancels the call.
        sink: Receives the progress. On cancellation, vertices in progress end as cancelled.
        what: The call's purpose, for errors.
        vertex: The digest of the export's vertex, which the server leaves empty.

    Returns:
        The message with the result.

    Raises:
        ExporterError: the call failed.
        UnavailableError: it ended without a result.
    """
    last: M | None = None
    with _ending_vertices(sink) as report, rpc_errors():
        try:
            async for message in call:
                if message.HasField("result"):
                    last = message
                else:
                    report(_with_vertex(status_update(message.progress), vertex))
        finally:
            call.cancel()
    if last is None:
        raise UnavailableError(f"the server ended {what} without a result")
    return last


def _with_vertex(update: StatusUpdate, digest: str) -> StatusUpdate:
    """Fill in the digest of the export's own vertex."""
    return StatusUpdate(
        vertexes=tuple(replace(item, digest=item.digest or digest) for item in update.vertexes),
        statuses=tuple(replace(item, vertex=item.vertex or digest) for item in update.statuses),
        logs=tuple(replace(item, vertex=item.vertex or digest) for item in update.logs),
        warnings=tuple(replace(item, vertex=item.vertex or digest) for item in update.warnings),
    )


@contextmanager
def _ending_vertices(sink: StatusSink) -> Iterator[StatusSink]:
    """When the block is cancelled, report vertices in progress as cancelled: no further updates arrive."""
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
