"""Credentials of the client that asked, through its session (``moby.filesync.v1.Auth``).

The order of questions is buildkitd's. For a registry with a token server, the client is asked for a token
authority first, a key that stands for its user. A client that has one fetches the tokens itself and never
reveals its credentials. We ask for credentials if it does not, or if the registry uses basic authentication.
Credentials and tokens of a client are used for one of its exports only.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import grpc
import grpc.aio

from exporter.errors import ExporterError, FailedPreconditionError, UnavailableError
from exporter.pb.moby.filesync.v1 import auth_pb2, auth_pb2_grpc
from exporter.remotes.registry.credentials import Credentials
from exporter.remotes.registry.hosts import address_of
from exporter.remotes.registry.tokens import Token, is_token
from exporter.rpc.session.peer import Peer
from exporter.rpc.status import from_rpc_error

M = TypeVar("M")

Connect = Callable[[], AbstractAsyncContextManager[Peer]]
"""Reaches a session's client while a block runs."""

SERVICE = "moby.filesync.v1.Auth"

_SECONDS = 60.0
"""How long a client may take for an answer, as in BuildKit: it may have to ask its user."""

_CLIENT_ID = "buildkit-exporter"
_KEY_BYTES = 32
_DEFAULT_LIFETIME = 60.0  # seconds; BuildKit's
_SESSION = "the client's session"

# The authority differs in each run, so that signatures made for others are not valid here.
_SALT = secrets.token_bytes(32)


class SessionCredentials:
    """See `DelegatingSource`: the credentials of one client, for one of its exports.

    Args:
        sessions: Its sessions, in the order in which to ask them. The first answer counts.
    """

    def __init__(self, sessions: Sequence[Connect]) -> None:
        self._sessions = sessions

    async def get(self, host: str) -> Credentials:
        """See `CredentialSource.get`.

        Raises:
            ExporterError: the client cannot read its credentials, or is gone.
        """
        request = auth_pb2.CredentialsRequest(Host=address_of(host))
        response = await self._ask(
            "Credentials", request, auth_pb2.CredentialsResponse, f"cannot get the credentials for {host}"
        )
        if response is None:
            has_none = f"{_SESSION}, which has no {SERVICE}"
            return Credentials(origin=has_none if self._sessions else "the request, which names no session")
        if response.Secret and not response.Username:
            return Credentials(identity_token=response.Secret, origin=_SESSION)
        return Credentials(response.Username, response.Secret, origin=_SESSION)

    async def token_source(self, host: str) -> SessionTokens | None:
        """See `DelegatingSource.token_source`.

        Raises:
            ExporterError: the client cannot tell, or is gone.
        """
        request = auth_pb2.GetTokenAuthorityRequest(Host=address_of(host), Salt=_SALT)
        response = await self._ask(
            "GetTokenAuthority",
            request,
            auth_pb2.GetTokenAuthorityResponse,
            f"cannot find out who fetches tokens for {host}",
            # The answer of clients whose users have disabled fetching tokens.
            nobody=(grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE),
        )
        if response is None:
            return None
        if len(response.PublicKey) != _KEY_BYTES:
            raise FailedPreconditionError(
                f"{_SESSION} gives a key of {len(response.PublicKey)} bytes for the tokens of {host}, not of "
                f"{_KEY_BYTES}"
            )
        return SessionTokens(self, host)

    async def fetch_token(self, host: str, realm: str, service: str, scopes: Sequence[str]) -> Token:
        """Have the client fetch a token; see `TokenSource.fetch`.

        Raises:
            ExporterError: it gets none, or is gone.
        """
        request = auth_pb2.FetchTokenRequest(
            ClientID=_CLIENT_ID, Host=address_of(host), Realm=realm, Service=service, Scopes=scopes
        )
        what = f"the client gets no token of {host} for {' '.join(scopes)}"
        response = await self._ask("FetchToken", request, auth_pb2.FetchTokenResponse, what)
        if response is None:
            raise FailedPreconditionError(f"{what}: it cannot be asked to fetch any")
        if not is_token(response.Token):
            raise UnavailableError(f"{what}: its answer has none")
        lifetime = response.ExpiresIn if response.ExpiresIn > 0 else _DEFAULT_LIFETIME
        # A hint, since the clocks of both machines may differ: a token that is refused is replaced anyhow.
        age = max(time.time() - response.IssuedAt, 0.0) if response.IssuedAt > 0 else 0.0
        return Token(response.Token, lifetime - age)

    async def _ask(
        self,
        method: str,
        request: Any,
        kind: type[M],
        what: str,
        *,
        nobody: Sequence[grpc.StatusCode] = (grpc.StatusCode.UNIMPLEMENTED,),
    ) -> M | None:
        """Ask one session after the other; None if all say that they cannot be asked that."""
        failure: ExporterError | None = None
        for connect in self._sessions:
            try:
                async with connect() as peer:
                    if not peer.supports(f"/{SERVICE}/{method}"):
                        continue
                    call = getattr(auth_pb2_grpc.AuthStub(peer.channel), method)
                    response = await call(request, timeout=_SECONDS)
                    assert isinstance(response, kind)
                    return response
            except grpc.aio.AioRpcError as error:
                if error.code() not in nobody:
                    failure = from_rpc_error(error, what)
            except grpc.aio.UsageError:  # the channel was closed under us
                failure = UnavailableError(f"{what}: the session has ended")
            except ExporterError as error:  # the session is not there
                failure = type(error)(f"{what}: {error.message}")
        if failure is not None:
            raise failure
        return None


@dataclass(frozen=True, slots=True)
class SessionTokens:
    """See `TokenSource`: a client that fetches tokens itself."""

    credentials: SessionCredentials
    host: str

    async def fetch(self, realm: str, service: str, scopes: Sequence[str]) -> Token:
        """See `TokenSource.fetch`."""
        return await self.credentials.fetch_token(self.host, realm, service, scopes)

    def advice(self, status: int) -> str:
        """See `TokenSource.advice`."""
        login = f"`docker login {self.host}`"
        if status == HTTPStatus.FORBIDDEN:
            return (
                "the client may not do that: check the repository's name and your rights to it, or log in as "
                f"somebody else with {login}"
            )
        return f"the token that the client has fetched does not allow that: log in with {login}"
