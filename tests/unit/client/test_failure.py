"""The details of a failed build, in addition to its text."""

from __future__ import annotations

import json

import grpc
import grpc.aio
import pytest
from google.protobuf import any_pb2
from google.rpc import status_pb2  # type: ignore[import-untyped]

from exporter.client.failure import KEPT_LOG_BYTES, KEPT_LOG_LINES, SolveError, StepRecorder, solve_errors
from exporter.client.sources import SourceFile, SourcePosition, SourceRange
from exporter.errors import Code, ExporterError, UnavailableError, failure_of
from exporter.image import Time
from exporter.progress.model import StatusUpdate, Vertex, VertexLog

STEP = "sha256:" + "1" * 64
TEXT = 'process "/bin/sh -c x" did not complete successfully: exit code: 3'
SOURCE = {
    "info": {
        "filename": "Dockerfile",
        "language": "Dockerfile",
        "data": "RlJPTSB4",
        "definition": {"def": []},
    },
    "ranges": [{"start": {"line": 1}, "end": {"line": 2, "character": 4}}],
}


def detail(name: str, value: object) -> any_pb2.Any:
    return any_pb2.Any(type_url=f"github.com/moby/buildkit/{name}+json", value=json.dumps(value).encode())


def failed(
    *details: any_pb2.Any, text: str = TEXT, code: grpc.StatusCode = grpc.StatusCode.UNKNOWN
) -> grpc.aio.AioRpcError:
    status = status_pb2.Status(code=code.value[0], message=text, details=details)
    trailers = grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString()))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, details=text)


def solve_error(error: grpc.aio.AioRpcError) -> SolveError:
    with pytest.raises(SolveError) as caught, solve_errors():
        raise error
    return caught.value


def test_details() -> None:
    error = solve_error(
        failed(
            detail("stack.Stack", {"frames": []}),
            detail("errdefs.Source", SOURCE),
            detail("errdefs.Vertex", {"digest": STEP}),
            detail("gatewayapi.ExitMessage", {"Code": 3}),
        )
    )
    assert error.message == f"failed to solve: {TEXT}"
    assert (error.vertex, error.exit_code, error.code) == (STEP, 3, Code.FAILED_PRECONDITION)
    [source] = error.sources
    assert source.info == SourceFile("Dockerfile", "Dockerfile", b"FROM x")
    assert source.ranges == (SourceRange(SourcePosition(1), SourcePosition(2, 4)),)
    assert error.status is not None
    assert len(error.status.details) == 4


def test_several_sources_come_in_the_daemon_s_order() -> None:
    other = {**SOURCE, "info": {"filename": "other.Dockerfile"}}
    error = solve_error(failed(detail("errdefs.Source", SOURCE), detail("errdefs.Source", other)))
    assert [source.info and source.info.filename for source in error.sources] == [
        "Dockerfile",
        "other.Dockerfile",
    ]


def test_an_exit_code_that_is_only_in_the_text() -> None:
    assert solve_error(failed()).exit_code == 3
    assert solve_error(failed(text="no exit code")).exit_code is None


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'{"digest":7,"Code":"x","info":[]}', b"\xff"])
def test_damaged_details_hide_nothing(value: bytes) -> None:
    names = ("errdefs.Source", "errdefs.Vertex", "gatewayapi.ExitMessage")
    damaged = [any_pb2.Any(type_url=f"github.com/moby/buildkit/{name}+json", value=value) for name in names]
    error = solve_error(failed(*damaged, detail("errdefs.Vertex", {"digest": STEP})))
    assert (error.vertex, error.message) == (STEP, f"failed to solve: {TEXT}")


def test_a_status_that_contradicts_its_details() -> None:
    trailers = grpc.aio.Metadata(("grpc-status-details-bin", b"\xff"))
    error = grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), trailers, details="gone")
    found = solve_error(error)
    assert (found.message, found.code) == ("failed to solve: gone", Code.NOT_FOUND)
    assert failure_of(found).code is Code.NOT_FOUND


def test_a_lost_connection_is_not_a_failed_build() -> None:
    with pytest.raises(UnavailableError) as caught, solve_errors():
        raise failed(text="Connection reset by peer", code=grpc.StatusCode.UNAVAILABLE)
    assert not isinstance(caught.value, SolveError)
    assert caught.value.message == "failed to solve: Connection reset by peer"
    assert isinstance(solve_error(failed()), ExporterError)


def test_a_registry_that_the_daemon_cannot_reach_is_a_failed_build() -> None:
    details = detail("errdefs.Vertex", {"digest": STEP})
    error = solve_error(failed(details, text="registry is gone", code=grpc.StatusCode.UNAVAILABLE))
    assert (error.code, error.vertex) == (Code.UNAVAILABLE, STEP)


def log(data: bytes, vertex: str = STEP) -> StatusUpdate:
    return StatusUpdate(logs=(VertexLog(vertex, data),))


def test_the_progress_gives_name_and_output() -> None:
    steps = StepRecorder()
    steps.record(StatusUpdate(vertexes=(Vertex(STEP, "RUN x"), Vertex("sha256:2", "RUN y"))))
    for data in (b"one\ntw", b"o\n", b"three"):
        steps.record(log(data))
    steps.record(log(b"not this\n", "sha256:2"))
    error = SolveError("failed", vertex=STEP)
    steps.complete(error)
    assert (error.vertex_name, error.logs) == ("RUN x", (b"one", b"two", b"three"))


def test_output_of_steps_that_succeeded_is_forgotten() -> None:
    steps = StepRecorder()
    steps.record(log(b"one\n"))
    steps.record(StatusUpdate(vertexes=(Vertex(STEP, "RUN x", completed=Time.from_unix(1, 0)),)))
    error = SolveError("failed", vertex=STEP)
    steps.complete(error)
    assert error.logs == ()


def test_only_the_end_of_long_output_is_kept() -> None:
    steps = StepRecorder()
    for number in range(10_000):
        steps.record(log(b"%d %s\n" % (number, b"x" * 100)))
    error = SolveError("failed", vertex=STEP)
    steps.complete(error)
    assert len(error.logs) == KEPT_LOG_LINES
    assert error.logs[-1].startswith(b"9999 ")
    steps.record(log(b"y" * (3 * KEPT_LOG_BYTES)))
    error = SolveError("failed", vertex=STEP)
    steps.complete(error)
    assert error.logs == (b"y" * KEPT_LOG_BYTES,)
