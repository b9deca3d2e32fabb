"""The command blocks of README.md and docs/: what a reader would run, in the order in which it is printed.

A fenced block of the language ``sh`` or ``python`` is run. An HTML comment on the line before it says more:

- ``<!-- needs: buildkitd buildctl -->``: it is run only where these peers can be run
- ``<!-- file: NAME -->``: it (of any language) is the content of a file, and is written to it
- ``<!-- in: checkout -->``: it is run in a directory with this project's sources
- ``<!-- run by: FILE -->``: it is not run by the test, since this script of the repository does that
- ``<!-- not run: REASON -->``: it is not run by anything
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent

_FENCE = re.compile(r"^ *```(?P<language>\w*)$")
_COMMENT = re.compile(r"^ *<!-- (?P<key>needs|file|in|run by|not run): (?P<value>.+) -->$")
_RUN = {"sh", "python"}


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        document: The file's path in the repository.
        line: Of its first line.
        language: The word behind the fence.
        text: What is in it, without indentation.
        notes: What the comment before it says, by key.
    """

    document: str
    line: int
    language: str
    text: str
    notes: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(self.notes.get("needs", "").split())

    @property
    def is_run(self) -> bool:
        """Whether it is to be run, or to be written to a file, with what the document has."""
        if self.notes.keys() & {"run by", "not run"}:
            return False
        return self.language in _RUN or "file" in self.notes

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def documents() -> list[Path]:
    """All that have blocks that are run."""
    return [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def blocks(path: Path) -> Iterator[Block]:
    """The fenced blocks of a document."""
    language: str | None = None
    notes: dict[str, str] = {}
    lines: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if language is not None:
            if fence is None:
                lines.append(line)
                continue
            text = textwrap.dedent("\n".join(lines)) + "\n"
            name = str(path.relative_to(REPOSITORY))
            yield Block(name, number - len(lines), language, text, notes)
            language, notes, lines = None, {}, []
        elif fence is not None:
            language = fence["language"]
        elif comment := _COMMENT.match(line):
            notes = {**notes, comment["key"]: comment["value"]}
        else:
            notes = {}
    assert language is None, f"{path}: a block does not end"
