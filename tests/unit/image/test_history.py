"""Fitting a history to the layers, and filling in times."""

from __future__ import annotations

import pytest

from exporter.image import (
    History,
    ImageError,
    LayerChainError,
    LayerMetadata,
    Time,
    fitted_history,
    parse_history,
)


def at(second: int) -> Time:
    return Time.from_unix(second)


def chain(*seconds: int | None) -> list[LayerMetadata]:
    return [
        LayerMetadata(f"layer {index}", None if second is None else at(second))
        for index, second in enumerate(seconds)
    ]


def config(*entries: str) -> bytes:
    return ('{"history":[' + ",".join(entries) + "]}").encode()


def entry(second: int | None = None, *, empty: bool = False) -> str:
    members = [f'"created":"{at(second).marshal()}"'] if second is not None else []
    members += ['"empty_layer":true'] if empty else []
    return "{" + ",".join(members) + "}"


def seconds(history: tuple[History, ...] | None) -> list[int | None]:
    return [None if item.created is None else item.created.unix for item in history or ()]


def test_missing_entries_are_appended() -> None:
    history = fitted_history(config(entry(1)), 3, [*chain(1, 2), LayerMetadata("", at(3))])
    assert history == (
        History(at(1)),
        History(at(2), "layer 1", comment="buildkit.exporter.image.v0"),
        History(at(3), "created by buildkit", comment="buildkit.exporter.image.v0"),
    )


def test_entries_for_layers_that_are_not_there_are_marked_empty() -> None:
    history = fitted_history(config(entry(1), entry(2, empty=True), entry(3), entry(4)), 1, chain(1))
    assert [item.empty_layer for item in history or ()] == [False, True, True, True]
    assert [item.empty_layer for item in fitted_history(config(entry(1)), 0, []) or ()] == [True]


def test_only_the_last_items_of_a_longer_chain_count() -> None:
    history = fitted_history(b"{}", 2, chain(1, 2, 3))
    assert [item.created_by for item in history or ()] == ["layer 1", "layer 2"]


def test_entries_without_a_ref_have_only_a_comment() -> None:
    assert fitted_history(b"{}", 1, None) == (History(comment="buildkit.exporter.image.v0"),)


def test_a_missing_history_differs_from_an_empty_one() -> None:
    assert fitted_history(b"{}", 0, None) is None
    assert fitted_history(b'{"history":null}', 0, []) is None
    assert fitted_history(b'{"history":[]}', 0, []) == ()
    # A chain too short to append anything.
    assert fitted_history(b"{}", 1, []) is None


@pytest.mark.parametrize(
    ("entries", "times", "filled"),
    [
        # Layers without a time get that of their layer.
        ([entry(), entry(9), entry()], [1, 2, 3], [1, 9, 3]),
        # Before the first new layer: its time; later: that of the entry before.
        ([entry(1), entry(empty=True), entry(), entry(empty=True)], [1, 5], [1, 5, 5, 5]),
        ([entry(empty=True), entry(empty=True), entry()], [7], [7, 7, 7]),
        (
            [entry(1), entry(empty=True), entry(), entry(empty=True), entry(), entry(empty=True)],
            [1, 5, 6],
            [1, 5, 5, 5, 6, 6],
        ),
        # Nothing timed follows: the last timed one.
        ([entry(1), entry(2), entry(empty=True)], [1, 2], [1, 2, 2]),
        # No time anywhere.
        ([entry(empty=True), entry()], [None], [None, None]),
    ],
)
def test_times_are_filled_in(entries: list[str], times: list[int | None], filled: list[int | None]) -> None:
    layers = len(times)
    assert seconds(fitted_history(config(*entries), layers, chain(*times))) == filled


@pytest.mark.parametrize(
    ("entries", "layers", "length", "message"),
    [
        ([entry(1), entry(2)], 3, 1, "runtime error: slice bounds out of range [2:1]"),
        ([entry(1), entry()], 2, 1, "runtime error: index out of range [1] with length 1"),
        ([entry()], 1, 0, "runtime error: index out of range [0] with length 0"),
    ],
)
def test_chains_that_are_too_short(entries: list[str], layers: int, length: int, message: str) -> None:
    with pytest.raises(LayerChainError) as caught:
        fitted_history(config(*entries), layers, chain(*range(length)))
    assert str(caught.value) == message


def test_a_short_chain_is_accepted_if_no_item_is_needed() -> None:
    assert seconds(fitted_history(config(entry(1)), 3, chain(5, 6))) == [1, 6]


def test_parse_history() -> None:
    data = (
        b'{"History":[{"created":"2024-01-02T03:04:05.5+01:00","AUTHOR":"a","comment":"c","empty_layer":true},'
        b"null]}"
    )
    assert parse_history(data) == (
        History(Time.parse("2024-01-02T03:04:05.5+01:00"), author="a", comment="c", empty_layer=True),
        History(),
    )
    assert parse_history(b"{}") is None
    with pytest.raises(
        ImageError, match=r"^failed to unmarshal history from config: json: cannot unmarshal number"
    ):
        parse_history(b'{"history":[1]}')
    with pytest.raises(ImageError, match="unexpected end of JSON input"):
        parse_history(b"")
