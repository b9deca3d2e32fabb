"""Patterns, compared with upstream's library."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.daemon.fsutil.patterns import Match, PatternMatcher
from exporter.errors import InvalidArgumentError

DATA = Path(__file__).parents[3] / "data" / "filesync" / "patterns.jsonl.gz"


def recorded() -> list[dict[str, Any]]:
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def match(matcher: PatternMatcher, path: str) -> Match:
    """Match the way a walk does: directories first."""
    parts = path.split("/")
    found = None
    for end in range(1, len(parts) + 1):
        found = matcher.match("/".join(parts[:end]), found)
    assert found is not None
    return found


def test_like_upstream() -> None:
    cases = recorded()
    assert len(cases) > 1000
    for case in cases:
        if case.get("error"):
            with pytest.raises(InvalidArgumentError):
                PatternMatcher(case["patterns"])
            continue
        matcher = PatternMatcher(case["patterns"])
        found = [match(matcher, path).matched for path in case.get("paths", ())]
        assert found == case.get("matched", []), case


@pytest.mark.parametrize(
    ("pattern", "directory", "can_match"),
    [
        ("a/b/*.txt", "a", True),  # it may be anything: there are wildcards in it
        ("a/b", "a", True),
        ("a/b", "c", False),
        ("a/b/**", "a/b", True),
        ("ab", "a", False),
    ],
)
def test_what_can_match_below(pattern: str, directory: str, can_match: bool) -> None:
    assert PatternMatcher([pattern]).can_match_below(directory, exceptions=False) is can_match
    assert PatternMatcher([f"!{pattern}"]).can_match_below(directory, exceptions=True) is can_match


def test_a_malformed_pattern_is_quoted() -> None:
    with pytest.raises(InvalidArgumentError, match=r"syntax error in pattern 'a/\[b'"):
        PatternMatcher(["ok", "a/[b"])


@given(st.lists(st.text("ab/*?[]!\\^-. ", max_size=8), max_size=4), st.text("ab./", min_size=1, max_size=8))
def test_any_pattern_is_matched_or_refused(patterns: list[str], path: str) -> None:
    try:
        matcher = PatternMatcher(patterns)
    except InvalidArgumentError:
        return
    matcher.match(path)
