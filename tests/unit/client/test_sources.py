"""Excerpts of files, as people see them."""

from __future__ import annotations

import pytest

from exporter.client import BuildSource, SourceFile, SourcePosition, SourceRange

RULE = "-" * 20


def part(first: int, last: int | None = None) -> SourceRange:
    return SourceRange(SourcePosition(first), SourcePosition(first if last is None else last))


def excerpt(text: str, *ranges: SourceRange) -> list[str]:
    info = SourceFile("Dockerfile", "Dockerfile", text.encode())
    return BuildSource(info, ranges).excerpt().splitlines()


TEN = "".join(f"line {number}\n" for number in range(1, 11))


@pytest.mark.parametrize(
    ("ranges", "first", "shown", "marked"),
    [
        ([part(1)], 1, range(1, 4), {1}),
        ([part(5)], 5, range(3, 8), {5}),
        ([part(11)], 11, range(9, 12), {11}),
        ([part(5, 6)], 5, range(4, 8), {5, 6}),
        ([part(3), part(5)], 3, range(2, 7), {3, 5}),
        ([part(5), part(3)], 3, range(2, 7), {3, 5}),
        ([part(9, 20)], 9, range(8, 12), {9, 10, 11}),
        ([part(5, 0)], 5, range(3, 8), {5}),
    ],
)
def test_excerpts_have_lines_of_context(
    ranges: list[SourceRange], first: int, shown: range, marked: set[int]
) -> None:
    lines = excerpt(TEN, *ranges)
    assert lines[0] == f"Dockerfile:{first}"
    assert (lines[1], lines[-1]) == (RULE, RULE)
    text = [*TEN.split("\n")]
    assert lines[2:-1] == [
        f" {number:3} | {'>>>' if number in marked else '   '} {text[number - 1]}" for number in shown
    ]


def test_one_line_without_a_break() -> None:
    assert excerpt("RUNN x", part(1)) == ["Dockerfile:1", RULE, "   1 | >>> RUNN x", RULE]


@pytest.mark.parametrize("ranges", [[], [part(0)], [part(12)], [part(-1, 5)]])
def test_ranges_beyond_the_file_are_not_shown(ranges: list[SourceRange]) -> None:
    assert excerpt(TEN, *ranges) == []


def test_a_place_without_a_file_is_not_shown() -> None:
    assert not BuildSource(None, (part(1),)).excerpt()
    assert not BuildSource(SourceFile("x", "", b"x"), None).excerpt()


def test_bytes_that_are_not_text() -> None:
    source = BuildSource(SourceFile("x", "", b"a\xff"), (part(1),))
    assert source.excerpt() == f"x:1\n{RULE}\n   1 | >>> a\ufffd\n{RULE}\n"
