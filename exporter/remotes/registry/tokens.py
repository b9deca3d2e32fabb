"""Tokens of registries' token servers: who fetches them, and how long they are kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

# A token is renewed somewhat before it ends: clocks differ, and requests take time.
_MARGIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, and the seconds from now that it is good for."""

    value: str = field(repr=False)
    lifetime: float


class TokenSource(Protocol):
    """Somebody who fetches tokens for one registry, with credentials that stay with them."""

    async def fetch(self, realm: str, service: str, scopes: Sequence[str]) -> Token:
        """Fetch a token.

        Args:
            realm: The token server's address, from the registry's challenge.
            service: What the challenge calls the registry; may be empty.
            scopes: What the token is to allow, ``repository:NAME:ACTIONS``.

        Raises:
            ExporterError: there is none.
        """
        ...

    def advice(self, status: int) -> str:
        """Say what to do when the registry has refused a token.

        Args:
            status: HTTP's: 401 for who one is, 403 for what one may do.
        """
        ...


@dataclass(frozen=True, slots=True)
class _KeptToken:
    value: str = field(repr=False)
    expires: float


class TokenCache:
    """The tokens of one user, until shortly before they end.

    Never to be shared: whoever has a token can do what it allows.
    """

    def __init__(self) -> None:
        self._tokens: dict[tuple[str, tuple[str, ...]], _KeptToken] = {}

    def get(self, host: str, scopes: tuple[str, ...]) -> str | None:
        """Return the token for a registry and a set of scopes; None if there is none that is still good."""
        token = self._tokens.get((host, scopes))
        return token.value if token is not None and token.expires > time.monotonic() else None

    def keep(self, host: str, scopes: tuple[str, ...], token: Token) -> None:
        """Keep a token."""
        expires = time.monotonic() + max(token.lifetime - _MARGIN_SECONDS, 1.0)
        self._tokens[host, scopes] = _KeptToken(token.value, expires)

    def forget(self, host: str, scopes: tuple[str, ...], value: str) -> None:
        """Forget a token that was refused, unless there is another one by now."""
        token = self._tokens.get((host, scopes))
        if token is not None and token.value == value:
            del self._tokens[host, scopes]


def is_token(text: str) -> bool:
    """Whether a text can stand in a header as a token."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text
