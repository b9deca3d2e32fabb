"""Places in the files that a build comes from, such as the lines of a Dockerfile, and how people see them.

BuildKit writes them as JSON, into the details of statuses and into the results of subrequests:
``pb.SourceInfo`` and ``pb.Range`` of its ``solver/pb``, with a field left out where it is zero.
"""

from __future__ import annotations

import msgspec

_RULE = "-" * 20

_LINES_AROUND = 2
_LINES_AROUND_ONE = 4


class SourcePosition(msgspec.Struct, frozen=True):
    """A place in a file.

    Attributes:
        line: From 1.
        character: From 0.
    """

    line: int = 0
    character: int = 0


class SourceRange(msgspec.Struct, frozen=True):
    """A part of a file. One that ends before it starts is its first line."""

    start: SourcePosition = SourcePosition()
    end: SourcePosition = SourcePosition()

    @property
    def last_line(self) -> int:
        """The last line that belongs to it."""
        return max(self.start.line, self.end.line)


class SourceFile(msgspec.Struct, frozen=True):
    """A file that steps come from.

    Attributes:
        filename: As the frontend calls it.
        language: ``Dockerfile``, and so on.
        data: Its contents.
    """

    filename: str = ""
    language: str = ""
    data: bytes = b""


class BuildSource(msgspec.Struct, frozen=True):
    """Parts of one file.

    Attributes:
        info: The file; None if the frontend did not say.
        ranges: The parts.
    """

    info: SourceFile | None = None
    ranges: tuple[SourceRange, ...] | None = ()

    def excerpt(self) -> str:
        """The lines that are meant, marked, and some around them, in buildctl's form.

        Returns:
            Lines, each with its line break; nothing where there is nothing to show.
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


def _with_context(first: int, last: int, count: int) -> tuple[int, int]:
    """Add lines around, alternately; a round in which both sides grow counts for three, as in BuildKit."""
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
