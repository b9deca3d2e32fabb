"""Locations in a build's source files, such as the lines of a Dockerfile, and excerpts for people.

BuildKit writes them as JSON into the details of statuses and the results of subrequests: ``pb.SourceInfo``
and ``pb.Range`` of its ``solver/pb``, without fields that are zero.
"""

from __future__ import annotations

import msgspec

from exporter.progress.model import SourceLines

_RULE = "-" * 20

_LINES_AROUND = 2
_LINES_AROUND_ONE = 4


class SourcePosition(msgspec.Struct, frozen=True):
    """A position in a file.

    Attributes:
        line: The line, from 1.
        character: The character, from 0.
    """

    line: int = 0
    character: int = 0


class SourceRange(msgspec.Struct, frozen=True):
    """A range in a file. If the end is before the start, it is just the first line."""

    start: SourcePosition = SourcePosition()
    end: SourcePosition = SourcePosition()

    @property
    def last_line(self) -> int:
        """The last line of the range."""
        return max(self.start.line, self.end.line)


class SourceFile(msgspec.Struct, frozen=True):
    """A source file of steps.

    Attributes:
        filename: The frontend's name for it.
        language: Its language, such as ``Dockerfile``.
        data: Its contents.
    """

    filename: str = ""
    language: str = ""
    data: bytes = b""


class BuildSource(msgspec.Struct, frozen=True):
    """Ranges in one file.

    Attributes:
        info: The file; None if unknown.
        ranges: The ranges.
    """

    info: SourceFile | None = None
    ranges: tuple[SourceRange, ...] | None = ()

    @property
    def lines(self) -> tuple[tuple[int, str], ...]:
        """The numbers and texts of the lines in the ranges; empty if the file is unknown."""
        if self.info is None:
            return ()
        lines = self.info.data.decode("utf-8", "replace").split("\n")
        return tuple((number, line) for number, line in enumerate(lines, 1) if self._has(number))

    def excerpt(self) -> str:
        """Format the lines, marked and with some context, in buildctl's format.

        Returns:
            Lines with line breaks; empty if there is nothing to show.
        """
        if self.info is None or not self.ranges:
            return ""
        lines = self.info.data.decode("utf-8", "replace").split("\n")
        first = min(part.start.line for part in self.ranges)
        if not 1 <= first <= len(lines):
            return ""
        last = min(max(part.last_line for part in self.ranges), len(lines))
        top, bottom = _with_context(first, last, len(lines))
        shown = (
            f" {number:3} | {'>>>' if self._has(number) else '   '} {lines[number - 1]}\n"
            for number in range(top, bottom + 1)
        )
        return f"{self.info.filename}:{first}\n{_RULE}\n{''.join(shown)}{_RULE}\n"

    def _has(self, line: int) -> bool:
        return any(part.start.line <= line <= part.last_line for part in self.ranges or ())


def source_of(lines: SourceLines) -> BuildSource:
    """Convert what a warning is about."""
    ranges = tuple(SourceRange(SourcePosition(first), SourcePosition(last)) for first, last in lines.ranges)
    return BuildSource(SourceFile(lines.filename, lines.language, lines.data), ranges)


def _with_context(first: int, last: int, count: int) -> tuple[int, int]:
    """Add context alternately on both sides. As in BuildKit, a round that adds to both counts as three."""
    wanted = _LINES_AROUND_ONE if first == last else _LINES_AROUND
    done = 0
    while done < wanted:
        if first > 1:
            first -= 1
            done += 1
        if last != count:
            last += 1
            done += 1
        done += 1
    return first, last
