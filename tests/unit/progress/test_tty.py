from __future__ import annotations

import io
from typing import Literal

import pytest
from rich.console import Console

from exporter.image import Time
from exporter.progress import StatusUpdate, Vertex, VertexLog, VertexStatus, VertexWarning
from exporter.progress.sanitize import clean, clean_output
from exporter.progress.tty import Row, TTYRenderer, end_of_output, fit_height
from tests.unit.progress import streams


def at(seconds: float) -> Time:
    return Time.from_unix_nano(int(seconds * 1e9))


class Screen:
    """A terminal whose last frame can be looked at. The one who reports has a clock that is far behind."""

    def __init__(
        self, *, width: int = 60, height: int = 20, encoding: str = "utf-8", colours: bool = False
    ) -> None:
        self.colours: Literal["standard"] | None = "standard" if colours else None
        self.raw = io.BytesIO()
        self.stream = io.TextIOWrapper(self.raw, encoding=encoding, write_through=True)
        self.console = Console(
            file=self.stream,
            force_terminal=True,
            width=width + 2,  # for the echo of Ctrl-C
            height=height,
            color_system=self.colours,
            _environ={"TERM": "xterm-256color"},  # not the environment of the test run
            highlight=False,
            legacy_windows=False,
        )
        self.now = 1000.0
        self.renderer = TTYRenderer(
            self.stream,
            console=self.console,
            clock=lambda: self.now,
            wall=lambda: int((self.now + 5_000_000) * 1e9),
        )

    def show(self, *updates: StatusUpdate, after: float = 1.0) -> None:
        for update in updates:
            self.now += after
            self.renderer.update(update)

    def frame(self, *, final: bool = False) -> list[str]:
        paper = Console(
            file=io.StringIO(),
            force_terminal=True,
            width=self.console.width,
            color_system=self.colours,
            highlight=False,
        )
        with paper.capture() as capture:
            paper.print(self.renderer.frame(final=final))
        return capture.get().splitlines()


EXPORT = Vertex("v", "exporting to oci image format", started=at(1))


def status(name: str, current: int = 0, total: int = 0, *, done: float | None = None) -> StatusUpdate:
    completed = at(done) if done is not None else None
    return StatusUpdate(
        statuses=(VertexStatus(name, "v", current=current, total=total, started=at(1), completed=completed),)
    )


def test_a_vertex_and_its_statuses_are_a_tree_with_timers() -> None:
    screen = Screen()
    screen.show(
        StatusUpdate(vertexes=(EXPORT,)),
        status("exporting layers", done=1.3),
        status("sending tarball", 1_200_000, 3_400_000),
    )
    assert screen.frame() == [
        "[⠋] Building 2.0s (0/1)",
        "⠋=> exporting to oci image format                       2.0s",
        " => => exporting layers                                 0.3s",
        "⠋=> => sending tarball 1.2MB / 3.4MB                    2.0s",
    ]
    screen.show(StatusUpdate(vertexes=(Vertex("v", EXPORT.name, started=at(1), completed=at(5)),)))
    assert screen.frame(final=True)[:2] == [
        "[+] Building 3.0s (1/1) FINISHED",
        " => exporting to oci image format                       4.0s",
    ]


def test_spinner_and_ellipsis_are_ascii_where_the_terminal_is() -> None:
    screen = Screen(width=40, encoding="ascii")
    screen.show(
        StatusUpdate(vertexes=(Vertex("v", "größer als die Zeile lang ist, viel größer", started=at(1)),))
    )
    assert screen.frame() == ["[-] Building 0.0s (0/1)", "-=> gr??er als die Zeile lang is... 0.0s"]


@pytest.mark.parametrize("width", [1, 5, 12, 20, 24, 30, 45])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    screen = Screen(width=width)
    screen.show(StatusUpdate(vertexes=(EXPORT,)), status("sending 画像 tarball", 1_200_000, 3_400_000))
    for line in screen.frame():
        assert sum(2 if ord(character) > 0x3000 else 1 for character in line) <= width


def test_a_narrow_terminal_loses_the_amount_first_and_the_timer_next() -> None:
    shown = {}
    for width in (40, 32, 20):
        screen = Screen(width=width)
        screen.show(
            StatusUpdate(vertexes=(EXPORT,)), status("sending tarball", 1_200_000, 3_400_000), after=0.1
        )
        shown[width] = screen.frame()[-1][1:]
    assert shown == {
        40: "=> => sending tarba… 1.2MB / 3.4MB 0.1s",
        32: "=> => sending tarball      0.1s",
        20: "=> => sending tarb…",
    }


def test_running_vertices_stay_in_a_low_window() -> None:
    screen = Screen(height=5)
    updates = [status(f"done {number}", done=1.5) for number in range(10)]
    screen.show(StatusUpdate(vertexes=(EXPORT,)), status("running"), *updates, after=0.0)
    names = [line[4:].split("  ")[0] for line in screen.frame()[1:]]
    assert names == ["exporting to oci image format", "=> running", "=> done 9"]
    assert len(screen.frame(final=True)) == 13


def test_running_rows_have_priority_and_rows_keep_their_order() -> None:
    rows = [Row("a", running=True), Row("b"), Row("c", running=True), Row("d")]
    assert [row.name for row in fit_height(rows, 3)] == ["a", "c", "d"]
    assert [row.name for row in fit_height(rows, 1)] == ["c"]
    assert fit_height(rows, -1) == []


def test_colours_tell_how_a_vertex_ended() -> None:
    screen = Screen(colours=True)
    screen.show(
        StatusUpdate(
            vertexes=(
                Vertex("1", "done", started=at(1), completed=at(2)),
                Vertex("2", "bad", started=at(1), completed=at(2), error="broken"),
                Vertex("3", "stopped", started=at(1), completed=at(2), error="context canceled"),
                Vertex("4", "known", started=at(1), completed=at(2), cached=True),
                Vertex("5", "running", started=at(1)),
            ),
            warnings=(VertexWarning("5", "odd"),),
        )
    )
    begins = [line.split("  ")[0] for line in screen.frame()[1:]]
    assert begins == [
        "\x1b[34m => done",
        "\x1b[31m => ERROR bad",
        "\x1b[33m => CANCELED stopped",
        "\x1b[34m => CACHED known",
        "⠋=> running",
        "\x1b[33m => WARN: odd",
    ]


def test_a_running_vertex_shows_the_end_of_its_output_while_there_is_room() -> None:
    update = StatusUpdate(logs=tuple(VertexLog("v", b"line %d\n" % n, timestamp=at(2)) for n in range(9)))
    high, low = Screen(height=10), Screen(height=8)
    for screen in (high, low):
        screen.show(StatusUpdate(vertexes=(EXPORT,)), update)
    assert high.frame()[2:] == [f" => => # line {n}" for n in range(3, 9)]
    assert len(low.frame()) == 2


def test_long_lines_of_output_take_several_rows() -> None:
    text = b"Get:1 http://deb.debian.org/debian bookworm/main amd64 libssl3 3.0.15\n\nnext\n"
    screen = Screen(width=40)
    screen.show(StatusUpdate(vertexes=(EXPORT,)), StatusUpdate(logs=(VertexLog("v", text, timestamp=at(2)),)))
    assert screen.frame()[2:] == [
        " => => # Get:1 http://deb.debian.org/deb",
        " => => # ian bookworm/main amd64 libssl3",
        " => => #  3.0.15",
        " => => # next",
    ]


def test_only_the_last_rows_of_output_are_shown() -> None:
    assert end_of_output([b"0.1 abcdefgh", b"0.2 ijk"], columns=3, limit=3) == ["def", "gh", "ijk"]
    assert end_of_output([b"0.1 \xe7\x94\xbb\xe5\x83\x8f"], columns=3, limit=3) == ["画", "像"]


@pytest.mark.parametrize(
    ("lines", "height", "shown"), [("8", 30, 8), ("50", 20, 12), ("2", 20, 6), ("x", 20, 6)]
)
def test_how_much_output_is_shown_can_be_chosen(
    monkeypatch: pytest.MonkeyPatch, lines: str, height: int, shown: int
) -> None:
    monkeypatch.setenv("BUILDKIT_TTY_LOG_LINES", lines)
    screen = Screen(height=height)
    update = StatusUpdate(logs=tuple(VertexLog("v", b"line\n", timestamp=at(2)) for _ in range(99)))
    screen.show(StatusUpdate(vertexes=(EXPORT,)), update)
    assert len(screen.frame()[2:]) == shown


def test_failed_vertices_are_reported_at_the_end() -> None:
    screen = Screen()
    screen.show(*streams.updates("kinds"))
    screen.renderer.close()
    written = screen.raw.getvalue().decode()
    assert written.count("------") == 2
    report = written[written.index("------") :].splitlines()
    assert report[1:3] == [" > RUN make:", "0.500 one"]
    assert report[-2:] == ["14.50 unfinished", "------"]
    assert "\x1b[31m" not in "".join(report)


def test_names_cannot_move_the_cursor() -> None:
    assert clean("a\x1b[2J\tb\u202ec\u2028d") == "a [2J b c d"
    assert clean_output(b"10%\r\x1b[32m100%\x1b[0m\r") == "100%"
    assert clean_output(b"\x1b]0;title\x07text\xff") == "text\ufffd"


def test_frames_are_limited() -> None:
    screen = Screen()
    screen.show(StatusUpdate(vertexes=(EXPORT,)))
    written = len(screen.raw.getvalue())
    screen.show(status("exporting layers"), after=0.01)
    assert len(screen.raw.getvalue()) == written
    screen.show(status("exporting layers", done=2), after=0.1)
    assert len(screen.raw.getvalue()) > written
