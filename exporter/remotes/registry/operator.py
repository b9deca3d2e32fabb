"""An operator's own credentials, used instead of clients' own, if the operator wants that."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace

from exporter.errors import ExporterError, UnavailableError
from exporter.remotes.registry.credentials import Credentials, CredentialSource, DelegatingSource
from exporter.remotes.registry.hosts import EVERY_HOST
from exporter.remotes.registry.tokens import TokenSource

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OperatorCredentials:
    """The credentials that an operator lends to clients.

    Attributes:
        source: Has them.
        hosts: The registries that they are for, as in references; `EVERY_HOST` for all.
    """

    source: CredentialSource
    hosts: Collection[str]

    async def get(self, host: str) -> Credentials | None:
        """Return those for a registry; None if the operator does not lend them, or has none.

        Raises:
            UnavailableError: they cannot be read. The log tells why; that is not for clients.
        """
        if host not in self.hosts and EVERY_HOST not in self.hosts:
            return None
        try:
            found = await self.source.get(host)
        except ExporterError as error:
            logger.error("credentials for %s: %s", host, error.message)
            text = f"the operator's credentials for {host} cannot be read: ask the operator of this server"
            raise UnavailableError(text) from None
        return None if found.anonymous else replace(found, origin="", is_operators=True)

    async def problems(self) -> list[str]:
        """Say which credentials are missing or cannot be read: better to the operator than to clients."""
        found = []
        for host in sorted(set(self.hosts) - {EVERY_HOST}):
            try:
                credentials = await self.source.get(host)
            except ExporterError as error:
                found.append(f"credentials for {host}: {error.message}")
            else:
                if credentials.anonymous:
                    found.append(f"there are no credentials for {host} in {credentials.origin}")
        return found


class LentCredentials:
    """A client's credentials, but an operator's where those are lent.

    Args:
        client: The client's.
        operator: The operator's; None if nothing is lent.
    """

    def __init__(self, client: CredentialSource, operator: OperatorCredentials | None) -> None:
        self._client = client
        self._operator = operator

    async def get(self, host: str) -> Credentials:
        """See `CredentialSource.get`. The client is not asked for what the operator has."""
        lent = await self._lent(host)
        return await self._client.get(host) if lent is None else lent

    async def token_source(self, host: str) -> TokenSource | None:
        """See `DelegatingSource.token_source`."""
        if not isinstance(self._client, DelegatingSource) or await self._lent(host) is not None:
            return None
        return await self._client.token_source(host)

    async def _lent(self, host: str) -> Credentials | None:
        return None if self._operator is None else await self._operator.get(host)
