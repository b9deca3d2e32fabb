"""Serving secrets to a daemon (``moby.buildkit.secrets.v1.Secrets``): ``RUN --mount=type=secret``."""

# ruff: noqa: N802 (methods are named as in the .proto)

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio

from exporter.content.threads import run_in_thread
from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.pb.moby.buildkit.secrets.v1 import secrets_pb2, secrets_pb2_grpc

MAX_SECRET_BYTES = 500 * 1024
"""The maximum size of a secret, as in BuildKit."""

SecretProvider = Callable[[], bytes | str | Awaitable[bytes | str]]
"""Returns a secret; see `Secret.provider`."""

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Secret:
    """The source of a secret; exactly one of `file`, `env`, `value` and `provider` is set.

    Attributes:
        id: Its ID in the build.
        file: A file.
        env: An environment variable.
        value: The secret itself.
        provider: Returns the secret when a step asks for it: an ordinary function, which is called in a
            thread, or a coroutine function. A string is encoded as UTF-8.
    """

    id: str
    file: Path | None = None
    env: str | None = None
    value: bytes | None = field(default=None, repr=False)
    provider: SecretProvider | None = None

    @classmethod
    def named(cls, secret_id: str, environ: Mapping[str, str] | None = None) -> Secret:
        """A secret with only a name: the environment variable of that name, or else the file.

        Args:
            secret_id: The name.
            environ: The environment variables; those of the process if None.
        """
        if secret_id in (os.environ if environ is None else environ):
            return cls(secret_id, env=secret_id)
        return cls(secret_id, file=Path(secret_id))

    async def get(self) -> bytes:
        """Read it, or ask its provider.

        Raises:
            NotFoundError: the environment variable is not set.
            InvalidArgumentError: the secret is too large.
            OSError: the file cannot be read.
            Exception: the provider has failed.
        """
        if self.provider is None:
            return await run_in_thread(self.read)
        if inspect.iscoroutinefunction(self.provider):
            found = await self.provider()
        else:
            found = await run_in_thread(self.provider)
            if inspect.isawaitable(found):
                found = await found
        return self._checked(found.encode() if isinstance(found, str) else bytes(found))

    def read(self) -> bytes:
        """Read it, unless it has a provider. Blocks.

        Raises:
            NotFoundError: the environment variable is not set.
            InvalidArgumentError: the secret is too large.
            OSError: the file cannot be read.
        """
        if self.value is not None:
            data = self.value
        elif self.file is not None:
            with self.file.open("rb") as file:
                data = file.read(MAX_SECRET_BYTES + 1)
        else:
            variable = os.fsencode(self.env or "")
            if variable not in os.environb:
                raise NotFoundError(f"secret {self.id}: environment variable {self.env} is not set")
            data = os.environb[variable]
        return self._checked(data)

    def _checked(self, data: bytes) -> bytes:
        if len(data) > MAX_SECRET_BYTES:
            raise InvalidArgumentError(f"secret {self.id} is too big: max size {MAX_SECRET_BYTES} bytes")
        return data


class SecretsServicer(secrets_pb2_grpc.SecretsServicer):
    """Serves secrets. Needs a server with `exporter.rpc.status.StatusInterceptor`.

    They are read on demand and not cached.

    Args:
        secrets: The secrets; the last one of an ID wins.
    """

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._secrets = {secret.id: secret for secret in secrets}

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server."""
        secrets_pb2_grpc.add_SecretsServicer_to_server(self, server)

    async def GetSecret(
        self, request: secrets_pb2.GetSecretRequest, context: Context
    ) -> secrets_pb2.GetSecretResponse:
        """Return a secret."""
        secret = self._secrets.get(request.ID)
        if secret is None:
            raise NotFoundError(f"secret {request.ID} not found")
        return secrets_pb2.GetSecretResponse(data=await secret.get())
