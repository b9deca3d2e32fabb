from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from exporter.image import Time
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.pb.pb import ops_pb2
from exporter.progress.model import (
    ProgressGroup,
    StatusUpdate,
    Vertex,
    VertexLog,
    VertexStatus,
    VertexWarning,
)
from exporter.remotes.messages.progress import status_response

TIME = Time.parse("2024-05-06T12:34:56.123456789Z")


def test_every_field_arrives() -> None:
    update = StatusUpdate(
        vertexes=(Vertex("v", "n", ("i",), True, TIME, TIME, "e", ProgressGroup("g", "gn", True)),),
        statuses=(VertexStatus("s", "v", "n", 1, 2, TIME, TIME, TIME),),
        logs=(VertexLog("v", b"\xff", 2, TIME),),
        warnings=(VertexWarning("v", "short", 3, ("d",), "u"),),
    )
    stamp = Timestamp(seconds=1714998896, nanos=123456789)
    assert status_response(update) == control_pb2.StatusResponse(
        vertexes=[
            control_pb2.Vertex(
                digest="v",
                inputs=["i"],
                name="n",
                cached=True,
                started=stamp,
                completed=stamp,
                error="e",
                progressGroup=ops_pb2.ProgressGroup(id="g", name="gn", weak=True),
            )
        ],
        statuses=[
            control_pb2.VertexStatus(
                ID="s",
                vertex="v",
                name="n",
                current=1,
                total=2,
                timestamp=stamp,
                started=stamp,
                completed=stamp,
            )
        ],
        logs=[control_pb2.VertexLog(vertex="v", timestamp=stamp, stream=2, msg=b"\xff")],
        warnings=[control_pb2.VertexWarning(vertex="v", level=3, short=b"short", detail=[b"d"], url="u")],
    )


def test_what_is_unset_stays_unset() -> None:
    message = status_response(StatusUpdate(vertexes=(Vertex("v", "n"),), statuses=(VertexStatus("s", "v"),)))
    assert not message.vertexes[0].HasField("started")
    assert not message.vertexes[0].HasField("progressGroup")
    assert not message.statuses[0].HasField("completed")


def test_names_of_files_that_are_not_utf8_do_not_break_the_stream() -> None:
    name = b"bad \xff name".decode("utf-8", "surrogateescape")
    message = status_response(StatusUpdate(vertexes=(Vertex("v", name, error=name),)))
    assert message.vertexes[0].name == "bad \\udcff name"
