from __future__ import annotations

import io

import pytest

from exporter.image import Time
from exporter.progress import StatusUpdate, Vertex, VertexLog, VertexStatus
from exporter.progress.plain import PlainRenderer
from tests.unit.progress import streams

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def at(seconds: float) -> Time:
    return Time.from_unix_nano(int(seconds * 1e9))


class Screen:
    """A renderer with a clock that the test turns."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.stream = io.BytesIO()
        self.renderer = PlainRenderer(self.stream, clock=self.clock, wall=lambda: int(self.clock.now * 1e9))

    def show(self, update: StatusUpdate, *, after: float = 0.2) -> None:
        self.clock.now += after
        self.renderer.update(update)

    @property
    def text(self) -> str:
        return self.stream.getvalue().decode()


@pytest.mark.parametrize("name", ["many-copy", "run-heredoc"])
def test_a_fast_build_is_printed_as_buildkit_does(name: str) -> None:
    screen = Screen()
    for update in streams.updates(name):
        screen.show(update, after=0.0)
    screen.renderer.close()
    assert screen.stream.getvalue() == streams.read(f"{name}.plain.gz")


def test_all_kinds_of_messages_are_printed_as_buildkit_does() -> None:
    screen = Screen()
    for update in streams.updates("kinds"):
        screen.show(update)
        screen.renderer.refresh()
    printed = screen.stream.getvalue()
    assert printed == streams.read("kinds.plain.gz")
    screen.renderer.close()
    assert screen.stream.getvalue().removeprefix(printed) == (
        b"------\n > RUN make:\n0.500 one\n0.500 two\n0.500 partial\n11.50 open line\n"
        b"13.50 \xff\x1b[31mred\x1b[0m\n14.50 unfinished\n------\n"
    )


def test_updates_in_quick_succession_are_printed_together() -> None:
    screen = Screen()
    screen.show(StatusUpdate(vertexes=(Vertex(A, "first", started=at(1)),)))
    for current in range(1, 10):
        status = VertexStatus("sending", A, current=current, total=9, timestamp=at(1), started=at(1))
        screen.show(StatusUpdate(statuses=(status,)), after=0.01)
    assert screen.text == "#1 first\n"
    screen.renderer.refresh()
    assert screen.text == "#1 first\n#1 sending 9B / 9B\n"


def test_a_status_without_enough_progress_gets_no_line_until_it_is_done() -> None:
    screen = Screen()
    screen.show(StatusUpdate(vertexes=(Vertex(A, "first", started=at(1)),)))
    for current, moment in ((0, 1.0), (4, 1.1), (5, 1.2), (9, 1.3), (9, 6.3)):
        status = VertexStatus("sending", A, current=current, total=100, timestamp=at(moment), started=at(1))
        screen.show(StatusUpdate(statuses=(status,)))
    done = VertexStatus("sending", A, current=9, total=100, timestamp=at(7), started=at(1), completed=at(7))
    screen.show(StatusUpdate(statuses=(done,)))
    assert screen.text.splitlines()[1:] == [
        "#1 sending 0B / 100B",
        "#1 sending 5B / 100B 0.2s",
        "#1 sending 9B / 100B 5.3s",
        "#1 sending 9B / 100B 6.0s done",
    ]


def test_a_repeated_message_is_printed_once() -> None:
    screen = Screen()
    update = StatusUpdate(vertexes=(Vertex(A, "first", started=at(1), completed=at(2)),))
    screen.show(update)
    screen.show(update)
    assert screen.text == "#1 first\n#1 DONE 1.0s\n"


def test_a_long_silent_vertex_gets_its_turn() -> None:
    screen = Screen()
    screen.show(StatusUpdate(vertexes=(Vertex(A, "first", started=at(1)),)))
    screen.show(StatusUpdate(vertexes=(Vertex(B, "second", started=at(1)),)))
    for _ in range(60):
        screen.show(StatusUpdate(logs=(VertexLog(A, b"busy\n", timestamp=at(1)),)))
    assert "#1 ...\n\n#2 second\n" in screen.text


def test_a_much_busier_vertex_takes_over_after_a_while() -> None:
    screen = Screen()
    screen.show(StatusUpdate(vertexes=(Vertex(A, "first", started=at(1)),)))
    screen.show(StatusUpdate(vertexes=(Vertex(B, "second", started=at(1)),)))
    busy = StatusUpdate(logs=(VertexLog(B, b"busy\n", timestamp=at(1)),))
    for _ in range(20):
        screen.show(busy)
    assert screen.text == "#1 first\n"
    for _ in range(20):
        screen.show(busy)
    assert screen.text == "#1 first\n#1 ...\n\n#2 second\n" + "#2 0.000 busy\n" * 40


def test_a_line_that_another_vertex_interrupts_is_repeated() -> None:
    screen = Screen()
    screen.show(StatusUpdate(vertexes=(Vertex(A, "first", started=at(1)),)))
    screen.show(StatusUpdate(logs=(VertexLog(A, b"half a ", timestamp=at(1)),)))
    screen.show(StatusUpdate(vertexes=(Vertex(B, "second", started=at(1), completed=at(1)),)))
    screen.show(StatusUpdate(logs=(VertexLog(A, b"line\nnext", timestamp=at(1)),)))
    screen.renderer.close()
    assert screen.text == (
        "#1 first\n#1 0.000 half a \n#1 ...\n\n#2 second\n#2 DONE 0.0s\n\n"
        "#1 first\n#1 0.000 half a line\n#1 0.000 next\n"
    )


def test_statuses_of_a_vertex_that_never_started_are_shown() -> None:
    screen = Screen()
    screen.show(StatusUpdate(vertexes=(Vertex(A, "importing cache"),)))
    assert screen.text == ""
    done = VertexStatus("inferring", A, timestamp=at(2), started=at(1), completed=at(2))
    screen.show(StatusUpdate(statuses=(done,)))
    assert screen.text == "#1 importing cache\n#1 inferring 1.0s done\n"


def test_messages_about_unknown_vertices_are_ignored() -> None:
    screen = Screen()
    screen.show(
        StatusUpdate(logs=(VertexLog(A, b"text\n"),), statuses=(VertexStatus("x", A, started=at(1)),))
    )
    screen.renderer.close()
    assert screen.text == ""


def test_names_are_shortened_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROGRESS_NO_TRUNC", "0")
    screen = Screen()
    screen.show(StatusUpdate(vertexes=(Vertex(A, "x" * 80, started=at(1)),)))
    assert screen.text == f"#1 {'x' * 72}...\n"
