"""Patterns of ``.dockerignore``, matched like the daemon's frontends (moby/patternmatcher).

Neither `fnmatch` nor the patterns of ``.gitignore`` are the same: ``*`` stops at slashes, ``**`` does not,
``!`` makes exceptions, the last matching pattern wins, and a directory's pattern applies to its contents.
"""

from __future__ import annotations

import enum
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from exporter.errors import InvalidArgumentError

_CHARACTER = r"(?:[^\\\-\]]|\\.)"
_WELL_FORMED = re.compile(
    rf"(?:[^\\\[]|\\.|\[\^?+(?:{_CHARACTER}(?:-{_CHARACTER})?+)++\])*", re.DOTALL
)  # what Go's filepath.Match takes
_LITERAL = frozenset(".+()|{}$")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern.

    Attributes:
        text: The cleaned pattern, without ``!``.
        is_exception: Whether it began with ``!``.
        matches: Tests a relative path with slashes.
    """

    text: str
    is_exception: bool
    matches: Callable[[str], bool]

    @property
    def prefix(self) -> str:
        """The pattern without ``/*`` or ``/**`` at its end."""
        return self.text.removesuffix("/**").removesuffix("/*")

    @property
    def is_plain(self) -> bool:
        """Whether `prefix` has no wildcards, so that we can decide what may match below it."""
        return not any(character in self.prefix for character in "*[]?^\\")


@dataclass(frozen=True, slots=True)
class Match:
    """Whether a path matches, and which patterns match. A directory's contents inherit the result."""

    matched: bool
    by: tuple[bool, ...]


class PatternMatcher:
    """Matches paths against a list of patterns.

    Args:
        patterns: The patterns; empty ones are ignored.

    Raises:
        InvalidArgumentError: a pattern is malformed.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = tuple(_parse(text) for pattern in patterns if (text := pattern.strip()))

    def match(self, path: str, parent: Match | None = None) -> Match:
        """Match a path.

        Args:
            path: The path, relative and with slashes.
            parent: The result for its directory; None at the top.
        """
        matched = False
        by = []
        for index, pattern in enumerate(self.patterns):
            hit = parent is not None and parent.by[index]
            if not hit:
                if pattern.is_exception != matched:  # it would not change the result
                    by.append(False)
                    continue
                hit = pattern.matches(path)
            by.append(hit)
            if hit:
                matched = not pattern.is_exception
        return Match(matched, tuple(by))

    def can_match_below(self, directory: str, *, exceptions: bool) -> bool:
        """Whether a pattern may match something in a directory that does not match itself.

        Args:
            directory: Its path.
            exceptions: Whether to consider exceptions, or the other patterns.
        """
        wanted = [pattern for pattern in self.patterns if pattern.is_exception == exceptions]
        if not all(pattern.is_plain for pattern in wanted):
            return True
        return any(f"{pattern.prefix}/".startswith(f"{directory}/") for pattern in wanted)


def _parse(text: str) -> Pattern:
    cleaned = clean_path(text)
    is_exception = cleaned.startswith("!")
    if cleaned == "!":
        raise InvalidArgumentError('illegal exclusion pattern: "!"')
    cleaned = cleaned.removeprefix("!")
    if not _WELL_FORMED.fullmatch(cleaned):
        raise InvalidArgumentError(f"syntax error in pattern {text!r}")
    try:
        return Pattern(cleaned, is_exception, compile_pattern(cleaned))
    except re.error as error:
        raise InvalidArgumentError(f"syntax error in pattern {text!r}: {error}") from error


def clean_path(path: str) -> str:
    """Clean a path (Go: ``path.Clean``)."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """Compile a pattern to a predicate.

    Raises:
        re.error: the pattern is malformed.
    """
    expression, kind = _translate(pattern)
    match kind:
        case _Kind.EXACT:
            return lambda path: path == pattern
        case _Kind.PREFIX:
            return lambda path: path.startswith(pattern[:-2])
        case _Kind.SUFFIX:
            suffix = pattern[2:]
            return lambda path: path.endswith(suffix) or f"/{path}" == suffix
    compiled = re.compile(rf"{expression}\Z")
    return lambda path: compiled.match(path) is not None


class _Kind(enum.Enum):
    """How a pattern is matched. The simple kinds affect the result: there, ``**`` does not match a slash."""

    EXACT = enum.auto()
    PREFIX = enum.auto()
    SUFFIX = enum.auto()
    EXPRESSION = enum.auto()


def _translate(pattern: str) -> tuple[str, _Kind]:
    expression: list[str] = []
    kind = _Kind.EXACT
    position = 0
    in_class = False
    while position < len(pattern):
        start = position
        character = pattern[position]
        position += 1
        if pattern.startswith("**", start):
            position += 2 if pattern.startswith("**/", start) else 1
            if position < len(pattern):
                expression.append("(?:.*/)?")
                kind = _Kind.EXPRESSION
            else:
                expression.append(".*")
                kind = _Kind.PREFIX if kind is _Kind.EXACT else _Kind.EXPRESSION
            if start == 0:
                kind = _Kind.SUFFIX
        elif character in "*?":
            # Within a class this is hardly intended, but upstream does it.
            expression.append("\\" * in_class + ("[^/]*" if character == "*" else "[^/]"))
            in_class = False
            kind = _Kind.EXPRESSION
        elif character == "\\":
            expression.append(pattern[start : position + 1])
            position += 1
            kind = _Kind.EXPRESSION
        elif character in "[]":
            # Python warns about a bracket in a class.
            expression.append("\\[" if in_class and character == "[" else character)
            in_class = character == "["
            kind = _Kind.EXPRESSION
        elif in_class and character in "&~":  # Python warns about these, too
            expression.append(f"\\{character}")
        else:
            expression.append(f"\\{character}" if character in _LITERAL else character)
    return "".join(expression), kind
