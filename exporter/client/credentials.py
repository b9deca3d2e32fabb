"""Credentials for registries: docker's configuration, fixed ones, or a function that is asked."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping

from exporter.content.threads import run_in_thread
from exporter.remotes.registry import Credentials, CredentialSource, RegistryOptions, StaticCredentials

Login = Credentials | tuple[str, str] | None
"""Credentials for one registry: user name and password as a pair, tokens as `Credentials`; None for none."""

CredentialFunction = Callable[[str], Login | Awaitable[Login]]
"""Returns the credentials for a host; ``docker.io`` for Docker Hub. An ordinary function runs in a thread."""

Auth = CredentialSource | CredentialFunction | Mapping[str, Login]
"""The source of credentials: an object, a function, or a mapping by host."""


class AskedCredentials:
    """A `CredentialSource` that asks a function."""

    def __init__(self, function: CredentialFunction) -> None:
        self._function = function

    async def get(self, host: str) -> Credentials:
        """See `CredentialSource.get`."""
        if inspect.iscoroutinefunction(self._function):
            found = await self._function(host)
        else:
            found = await run_in_thread(self._function, host)
            if inspect.isawaitable(found):
                found = await found
        return _credentials(found)


def registry_options(auth: Auth | RegistryOptions | None) -> RegistryOptions | None:
    """Convert what a caller gives as ``auth``; None means docker's configuration."""
    if auth is None or isinstance(auth, RegistryOptions):
        return auth
    if isinstance(auth, Mapping):
        return RegistryOptions(
            credentials=StaticCredentials({host: _credentials(login) for host, login in auth.items()})
        )
    if callable(auth):
        return RegistryOptions(credentials=AskedCredentials(auth))
    return RegistryOptions(credentials=auth)


def _credentials(login: Login) -> Credentials:
    if login is None:
        return Credentials()
    if isinstance(login, Credentials):
        return login
    username, password = login
    return Credentials(username=username, password=password)
