"""Tokens of registries' token servers: fetching and caching them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

# A token is renewed early, because clocks differ and requests take time.
_MARGIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, and its remaining lifetime in seconds."""

    value: str = field(repr=False)
    lifetime: float


class TokenSource(Protocol):
    """Fetches tokens for one registry without revealing the credentials."""

    async def fetch(self, realm: str, service: str, scopes: Sequence[str]) -> Token:
        """Fetch a token.

        Args:
            realm: The token server's URL, from the registry's challenge.
            service: The registry's name in the challenge; may be empty.
            scopes: The requested scopes, ``repository:NAME:ACTIONS``.

        Raises:
            ExporterError: no token is available.
        """
        ...

    def advice(self, status: int) -> str:
        """Advise the user when the registry has rejected a token.

        Args:
            status: The HTTP status: 401 (authentication) or 403 (authorization).
        """
        ...


@dataclass(frozen=True, slots=True)
class _KeptToken:
    value: str = field(repr=False)
    expires: float


class TokenCache:
    """Caches the tokens of one user until shortly before they expire.

    It must not be shared between users, because a token grants access to anyone who has it.
    """

    def __init__(self) -> None:
        self._tokens: dict[tuple[str, tuple[str, ...]], _KeptToken] = {}

    def get(self, host: str, scopes: tuple[str, ...]) -> str | None:
        """Return the token for a registry and a set of scopes; None if there is no valid one."""
        token = self._tokens.get((host, scopes))
        return token.value if token is not None and token.expires > time.monotonic() else None

    def keep(self, host: str, scopes: tuple[str, ...], token: Token) -> None:
        """Store a token."""
        expires = time.monotonic() + max(token.lifetime - _MARGIN_SECONDS, 1.0)
        self._tokens[host, scopes] = _KeptToken(token.value, expires)

    def forget(self, host: str, scopes: tuple[str, ...], value: str) -> None:
        """Drop a rejected token, unless it has been replaced in the meantime."""
        token = self._tokens.get((host, scopes))
        if token is not None and token.value == value:
            del self._tokens[host, scopes]


def is_token(text: str) -> bool:
    """Whether a text is usable as a token in a header."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text
