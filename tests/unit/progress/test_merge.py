from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from exporter.image import Time
from exporter.progress import ProgressGroup, ProgressState, StatusUpdate, Vertex, VertexLog, VertexStatus
from exporter.progress.merge import Interval, busy_seconds, merge_intervals
from exporter.progress.units import format_amount, format_bytes
from tests.unit.progress import streams


def at(seconds: float) -> Time:
    return Time.from_unix_nano(int(seconds * 1e9))


def vertexes(*vertexes: Vertex) -> StatusUpdate:
    return StatusUpdate(vertexes=vertexes)


def test_the_latest_message_about_a_vertex_wins() -> None:
    state = ProgressState()
    state.apply(vertexes(Vertex("v", "first")))
    assert (state.vertexes, state.total, state.completed) == ([], 1, 0)
    state.apply(vertexes(Vertex("v", "second", started=at(1))))
    [shown] = state.vertexes
    assert (shown.name, shown.running, state.completed) == ("second", True, 0)
    state.apply(vertexes(Vertex("v", "second", started=at(1), completed=at(3), error="broken")))
    assert (shown.error, shown.running, shown.failed, state.completed) == ("broken", False, True, 1)
    assert shown.seconds(now=0) == 2.0


def test_an_announcement_does_not_reset_a_vertex() -> None:
    state = ProgressState()
    state.apply(vertexes(Vertex("v", "name", started=at(1), completed=at(2), error="broken")))
    changes = state.apply(vertexes(Vertex("v", "other name")))
    assert not changes.touched
    assert (state.vertexes[0].name, state.vertexes[0].error) == ("name", "broken")


def test_a_vertex_that_starts_again_runs_again() -> None:
    state = ProgressState()
    state.apply(vertexes(Vertex("v", "name", started=at(1), completed=at(2))))
    state.apply(vertexes(Vertex("v", "name", started=at(5))))
    [shown] = state.vertexes
    assert shown.running
    assert shown.seconds(now=8_000_000_000) == 4.0


def test_only_changes_are_reported() -> None:
    state = ProgressState()
    update = vertexes(Vertex("v", "name", started=at(1)))
    assert list(state.apply(update).touched) == state.vertexes
    assert not state.apply(update).touched


def test_the_latest_status_wins_and_their_order_is_that_of_their_start() -> None:
    state = ProgressState()
    state.apply(vertexes(Vertex("v", "name", started=at(1))))
    not_started = VertexStatus("never", "v")
    first, second = VertexStatus("a", "v", current=1, started=at(1)), VertexStatus("b", "v", started=at(1))
    state.apply(StatusUpdate(statuses=(not_started, first, second)))
    latest = VertexStatus("a", "v", current=2, started=at(1))
    state.apply(StatusUpdate(statuses=(latest,)))
    assert list(state.vertexes[0].statuses.values()) == [latest, second]


def test_a_group_is_shown_as_one_vertex() -> None:
    state = ProgressState()
    group = ProgressGroup("g", "the group")
    one = Vertex("1", "one", started=at(1), completed=at(2), cached=True, group=group)
    two = Vertex("2", "two", started=at(1.5), group=group)
    state.apply(vertexes(one, two))
    [shown] = state.vertexes
    assert (shown.name, shown.running, shown.cached, state.total) == ("the group", True, False, 1)
    state.apply(vertexes(Vertex("2", "two", started=at(1.5), completed=at(4), error="broken", group=group)))
    assert (shown.error, shown.seconds(now=0), state.completed) == ("broken", 3.0, 1)
    changes = state.apply(StatusUpdate(logs=(VertexLog("1", b"text\n", timestamp=at(2)),)))
    assert [(owner, piece.text) for owner, piece in changes.output] == [(shown, b"1.000 text")]


def test_a_weak_group_is_hidden_until_a_strong_member_starts_or_one_fails() -> None:
    weak, strong = ProgressGroup("g", "the group", weak=True), ProgressGroup("g", "the group")
    state = ProgressState()
    state.apply(vertexes(Vertex("1", "one", started=at(1), group=weak)))
    assert (state.vertexes, state.total) == ([], 0)
    state.apply(vertexes(Vertex("2", "two", started=at(1), group=strong)))
    assert len(state.vertexes) == 1

    state = ProgressState()
    state.apply(vertexes(Vertex("1", "one", started=at(1), completed=at(2), error="broken", group=weak)))
    assert len(state.vertexes) == 1


def test_a_cancelled_vertex_has_not_failed() -> None:
    state = ProgressState()
    state.apply(
        vertexes(Vertex("v", "name", started=at(1), completed=at(2), error="solving: context canceled"))
    )
    assert (state.vertexes[0].canceled, state.vertexes[0].failed) == (True, False)


def test_only_the_end_of_the_output_is_kept_and_long_lines_are_cut() -> None:
    state = ProgressState(tail=2)
    state.apply(vertexes(Vertex("v", "name", started=at(1))))
    for number in range(3):
        state.apply(StatusUpdate(logs=(VertexLog("v", b"%d\n" % number, timestamp=at(1)),)))
    for _ in range(100):
        state.apply(StatusUpdate(logs=(VertexLog("v", b"x" * 1000, timestamp=at(1)),)))
    tail = list(state.vertexes[0].tail)
    assert tail[0] == b"0.000 2"
    assert tail[1].startswith(b"0.000 xxx")
    assert len(tail[1]) < 20_000


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_pieces_make_up_the_output(chunks: list[bytes]) -> None:
    state = ProgressState()
    state.apply(vertexes(Vertex("v", "name", started=at(1))))
    text = b""
    for chunk in chunks:
        for _, piece in state.apply(StatusUpdate(logs=(VertexLog("v", chunk, timestamp=at(1)),))).output:
            text += (piece.text.removeprefix(b"0.000 ") if piece.begins else piece.text) + b"\n" * piece.ends
    assert text == b"".join(chunks)


def test_coalescing_does_not_change_the_result() -> None:
    whole, single = ProgressState(), ProgressState()
    updates = streams.updates("kinds")
    whole.apply(
        StatusUpdate(
            vertexes=tuple(v for u in updates for v in u.vertexes),
            statuses=tuple({(s.vertex, s.id): s for u in updates for s in u.statuses}.values()),
        )
    )
    for update in updates:
        single.apply(update)

    def picture(state: ProgressState) -> list[tuple[object, ...]]:
        return [
            (v.key, v.name, v.cached, v.error, v.intervals, list(v.statuses.values())) for v in state.vertexes
        ]

    assert picture(whole) == picture(single)


intervals = st.builds(
    lambda start, length: Interval(start, None if length is None else start + length),
    st.integers(0, 30),
    st.none() | st.integers(0, 10),
)


@given(st.lists(intervals))
def test_merged_intervals_cover_the_same_time_and_do_not_overlap(spans: list[Interval]) -> None:
    merged = merge_intervals(spans)
    now = 100

    def cover(spans: list[Interval]) -> set[int]:
        return {tick for s in spans for tick in range(s.start, now if s.stop is None else s.stop)}

    assert cover(merged) == cover(spans)
    assert busy_seconds(merged, now) == len(cover(merged)) / 1e9
    for earlier, later in pairwise(merged):
        assert earlier.stop is not None
        assert earlier.stop < later.start


def test_bytes_are_shown_with_decimal_units() -> None:
    shown = [format_bytes(count) for count in (0, 999, 1000, 1234, 999_999, 1_000_000, 10**9, -1500, 10**21)]
    assert shown == [
        "0B",
        "999B",
        "1.00kB",
        "1.23kB",
        "1000.00kB",
        "1.00MB",
        "1.00GB",
        "-1.50kB",
        "1000.00EB",
    ]
    assert format_bytes(1_260_000, 1) == "1.3MB"


def test_amounts() -> None:
    assert format_amount(VertexStatus("a", "v", current=1_200_000, total=3_400_000), 1) == "1.2MB / 3.4MB"
    assert format_amount(VertexStatus("a", "v", current=5)) == "5B"
    assert format_amount(VertexStatus("a", "v")) == ""
