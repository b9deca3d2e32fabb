from __future__ import annotations

import io
import json

import pytest

from exporter.image import Time
from exporter.progress import ProgressGroup, StatusUpdate, Vertex, VertexLog, VertexStatus
from exporter.progress.rawjson import RawJSONRenderer, marshal_update
from tests.unit.progress import streams


@pytest.mark.parametrize("name", ["many-copy", "run-heredoc"])
def test_recorded_messages_are_written_with_the_same_keys_and_values(name: str) -> None:
    for line, update in zip(streams.lines(name), streams.updates(name), strict=True):
        assert json.loads(marshal_update(update)) == json.loads(line)


def test_lines_are_those_of_go() -> None:
    stream = io.BytesIO()
    renderer = RawJSONRenderer(stream)
    for update in streams.updates("kinds"):
        renderer.update(update)
    renderer.refresh()
    renderer.close()
    assert stream.getvalue() == streams.read("kinds.ndjson.gz")


def test_empty_fields_are_omitted_except_those_that_go_always_writes() -> None:
    update = StatusUpdate(
        vertexes=(Vertex("", "", group=ProgressGroup("")),),
        statuses=(VertexStatus("", ""),),
        logs=(VertexLog("", b"", stream=0),),
    )
    assert marshal_update(update) == (
        b'{"vertexes":[{"progressGroup":{}}],"statuses":[{"id":"","current":0,"timestamp":"1970-01-01T00:00:00Z"}],'
        b'"logs":[{"data":null,"timestamp":"1970-01-01T00:00:00Z"}]}'
    )
    assert marshal_update(StatusUpdate()) == b"{}"


def test_times_are_written_in_utc() -> None:
    started = Time.parse("2026-01-02T03:04:05.100+02:00")
    line = marshal_update(StatusUpdate(vertexes=(Vertex("sha256:1", "n", started=started),)))
    assert b'"started":"2026-01-02T01:04:05.1Z"' in line
