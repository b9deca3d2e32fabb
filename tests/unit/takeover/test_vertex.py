from __future__ import annotations

import hashlib

from google.protobuf.timestamp_pb2 import Timestamp

from exporter.image import Time
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.progress.model import StatusUpdate, Vertex, VertexLog, VertexStatus
from exporter.takeover.progress import BuildProgress
from exporter.takeover.vertex import ExportVertex

DIGEST = f"sha256:{hashlib.sha256(b's-export-1').hexdigest()}"
THEIRS = "sha256:whatever the exporter calls it"


def at(seconds: int) -> Timestamp:
    return Timestamp(seconds=seconds)


class Shown:
    """An export's vertex, and what it shows."""

    def __init__(self) -> None:
        self.updates: list[StatusUpdate] = []
        self.vertex = ExportVertex("s", 1, "exporting ours", self.updates.append)

    def daemon(
        self, *, completed: int | None = None, error: str = "", status: str = "", digest: str = DIGEST
    ) -> control_pb2.StatusResponse:
        """The client's view of a daemon's message."""
        message = control_pb2.StatusResponse()
        if status:
            message.statuses.add(ID=status, vertex=digest)
        else:
            vertex = message.vertexes.add(digest=digest, name="exporting to oci", started=at(1), error=error)
            if completed is not None:
                vertex.completed.CopyFrom(at(completed))
        self.vertex.rewrite(message)
        return message

    def ours(self, completed: int | None = None, error: str = "") -> None:
        ended = Time.from_unix(completed) if completed is not None else None
        vertex = Vertex(THEIRS, "exporting ours", started=Time.from_unix(5), completed=ended, error=error)
        self.vertex.report(StatusUpdate(vertexes=(vertex,)))

    def vertexes(self) -> list[Vertex]:
        return [vertex for update in self.updates for vertex in update.vertexes]


def test_one_vertex_is_shown_for_both() -> None:
    shown = Shown()
    [begun] = shown.daemon().vertexes
    assert begun.name == "exporting ours"
    assert [s.ID for s in shown.daemon(status="exporting layers").statuses] == ["preparing layers"]
    assert not shown.daemon(status="exporting manifest sha256:1").statuses
    assert not shown.daemon(status="sending tarball").statuses
    shown.vertex.begin()
    shown.ours()
    shown.ours(completed=9)
    shown.vertex.end()
    [ended] = shown.vertexes()
    assert ended.digest == DIGEST
    assert ended.started == Time.from_unix(1)
    assert ended.completed == Time.from_unix(9)
    assert not shown.daemon(completed=10).vertexes


def test_our_error_is_shown() -> None:
    shown = Shown()
    shown.daemon()
    shown.vertex.begin()
    shown.ours()
    shown.ours(completed=9, error="boom")
    assert not shown.daemon(completed=10, error="failed to copy to tar: boom").vertexes
    assert [vertex.error for vertex in shown.vertexes()] == ["boom"]


def test_a_vertex_ends_without_messages_of_its_exporter() -> None:
    shown = Shown()
    shown.vertex.begin()
    shown.vertex.end("cannot reach it")
    shown.vertex.end()
    [ended] = shown.vertexes()
    assert ended.error == "cannot reach it"
    assert ended.completed is not None
    assert not shown.daemon().vertexes  # late


def test_the_daemons_own_failure_is_shown() -> None:
    shown = Shown()
    shown.daemon()
    [ended] = shown.daemon(completed=3, error="no space left").vertexes
    assert ended.error == "no space left"
    assert ended.name == "exporting ours"


def test_publishing_restarts_the_vertex() -> None:
    shown = Shown()
    shown.vertex.begin()
    shown.ours(completed=9)
    shown.ours()
    shown.ours(completed=12)
    assert [vertex.completed is not None for vertex in shown.vertexes()] == [True, False, True]
    assert {vertex.digest for vertex in shown.vertexes()} == {DIGEST}


def test_other_vertices_are_left_alone() -> None:
    shown = Shown()
    assert shown.daemon(digest="sha256:other").vertexes[0].name == "exporting to oci"
    assert shown.daemon(digest="sha256:other", status="sending tarball").statuses


async def test_late_watchers_see_past_progress() -> None:
    progress = BuildProgress()
    status = VertexStatus("s", "v", current=1)
    progress.put(StatusUpdate(vertexes=(Vertex("v", "n"),), statuses=(status,)))
    with progress.watched() as early, progress.watched() as late:
        progress.put(StatusUpdate(logs=(VertexLog("v", b"x"),)))
        progress.close()
        for queue in (early, late):
            [update] = [update async for update in queue]
            assert update.vertexes == (Vertex("v", "n"),)
            assert update.statuses == (status,)
            assert update.logs == (VertexLog("v", b"x"),)
    with progress.watched() as after:
        [update] = [update async for update in after]
        assert update.logs == ()
