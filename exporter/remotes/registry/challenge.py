"""Parsing ``WWW-Authenticate`` (RFC 9110, section 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
# An unquoted realm is invalid, because a URL is not a token. But some registries omit the quotes.
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))')
_SCHEME = re.compile(rf"({_TOKEN})(?=[ \t,]|$)")
_SEPARATOR = re.compile(r"[ \t,]*")


@dataclass(frozen=True, slots=True)
class Challenge:
    """An authentication scheme that a registry offers. Scheme and parameter names are in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Parse headers with one or more challenges each. Parsing stops where a header is malformed."""
    challenges: list[Challenge] = []
    for header in headers:
        challenges += _parse_header(header)
    return challenges


def _parse_header(header: str) -> list[Challenge]:
    challenges: list[Challenge] = []
    for match in _words(header):
        if match.re is _SCHEME:
            challenges.append(Challenge(match[1].lower()))
        elif not challenges:
            break
        else:
            name, quoted, plain = match.groups()
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            challenges[-1].parameters.setdefault(name.lower(), value)
    return challenges


def _words(header: str) -> Iterator[re.Match[str]]:
    position = 0
    while True:
        separator = _SEPARATOR.match(header, position)
        position = separator.end() if separator else position
        match = _PARAMETER.match(header, position) or _SCHEME.match(header, position)
        if match is None:
            return
        yield match
        position = match.end()
