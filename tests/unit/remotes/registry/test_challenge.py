"""Reading ``WWW-Authenticate``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.remotes.registry.challenge import Challenge, parse_challenges

BEARER = Challenge("bearer", {"realm": "https://auth.example/token", "service": "r"})


def test_several_in_one_header() -> None:
    header = (
        'Bearer realm="https://auth.example/token",service="r, \\"x\\"",scope="repository:a:pull" , '
        "Basic realm=plain"
    )
    assert parse_challenges([header, "Negotiate"]) == [
        Challenge(
            "bearer",
            {"realm": "https://auth.example/token", "service": 'r, "x"', "scope": "repository:a:pull"},
        ),
        Challenge("basic", {"realm": "plain"}),
        Challenge("negotiate"),
    ]


@pytest.mark.parametrize(
    "header",
    [
        'Bearer realm="https://auth.example/token",service="r"',
        'bearer REALM="https://auth.example/token" , Service=r',
        "Bearer realm=https://auth.example/token,service=r",
        'Bearer realm = "https://auth.example/token" service="r"',
        ', Bearer realm="https://auth.example/token",,service="r",',
        'Bearer realm="https://auth.example/token",service="r",realm="twice"',
        'Bearer realm="https://auth.example/token",service="r",?',
    ],
)
def test_spellings(header: str) -> None:
    assert parse_challenges([header]) == [BEARER]


@pytest.mark.parametrize("header", ["", " , ", 'realm="r"', '"', "Bearer?", "=", "\u00e9 realm=x"])
def test_invalid_challenges(header: str) -> None:
    assert parse_challenges([header]) == []


@given(st.lists(st.text(max_size=200), max_size=3))
def test_any_header_can_be_read(headers: list[str]) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower()


TOKENS = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=8)
# Quoted strings hold anything that can stand in a header.
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=12)
CHALLENGES = st.lists(
    st.builds(Challenge, TOKENS.map(str.lower), st.dictionaries(TOKENS.map(str.lower), VALUES, max_size=3)),
    max_size=4,
)


@given(CHALLENGES, st.booleans())
def test_written_challenges_can_be_parsed(challenges: list[Challenge], in_one: bool) -> None:
    headers = [
        " ".join(
            (
                challenge.scheme,
                ", ".join(f'{name}="{_quote(value)}"' for name, value in challenge.parameters.items()),
            )
        )
        for challenge in challenges
    ]
    assert parse_challenges([", ".join(headers)] if in_one else headers) == challenges


def _quote(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
