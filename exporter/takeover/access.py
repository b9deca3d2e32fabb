"""The credentials for registries in an export: those of the build's owner."""

# ruff: noqa: N802 (methods are named as in the .proto)

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import grpc
import grpc.aio

from exporter.daemon.services.auth import AuthServicer
from exporter.pb.moby.filesync.v1 import auth_pb2, auth_pb2_grpc
from exporter.remotes.registry import RegistryOptions, StaticCredentials
from exporter.remotes.registry.hosts import host_at
from exporter.remotes.registry.operator import LentCredentials, OperatorCredentials
from exporter.remotes.session.auth import SERVICE, SessionCredentials
from exporter.rpc.session.peer import Peer
from exporter.takeover.backend import RegistryAccess
from exporter.takeover.session_client import SessionClient

_METHODS = ("Credentials", "FetchToken", "GetTokenAuthority", "VerifyTokenAuthority")

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class OperatorAccess:
    """The credentials that an operator lends to clients.

    Attributes:
        credentials: The credentials, and the registries that they are for.
        registries: The configuration for reaching their token servers.
    """

    credentials: OperatorCredentials
    registries: RegistryOptions


def access_of_user(registries: RegistryOptions | None) -> RegistryAccess:
    """The credentials of the user who runs this process, for their own builds."""
    registries = registries or RegistryOptions()
    return RegistryAccess(registries.credentials, (AuthServicer(registries).register,))


def access_of_client(client: SessionClient, operator: OperatorAccess | None = None) -> RegistryAccess:
    """The credentials of a client whose session passes through the proxy.

    Args:
        client: The client.
        operator: The credentials that the operator lends it, if any.
    """

    @asynccontextmanager
    async def connect() -> AsyncIterator[Peer]:
        async with client.channel() as channel:
            yield _Peer(client, channel)

    lent = None if operator is None else operator.credentials
    credentials = LentCredentials(SessionCredentials((connect,)), lent)
    is_served = operator is not None or any(client.supports(f"/{SERVICE}/{method}") for method in _METHODS)
    services = (PassedOnAuth(client, operator).register,) if is_served else ()
    return RegistryAccess(credentials, services)


@dataclass(frozen=True, slots=True)
class _Peer:
    client: SessionClient
    channel: grpc.aio.Channel

    def supports(self, method: str) -> bool:
        return self.client.supports(method)


class PassedOnAuth(auth_pb2_grpc.AuthServicer):
    """Serves the client's credentials to a plugin server, and those that the operator lends.

    Calls are forwarded unchanged: the key in a token authority is the client's, not ours.

    Args:
        client: The client.
        operator: The credentials that the operator lends it, if any.
    """

    def __init__(self, client: SessionClient, operator: OperatorAccess | None = None) -> None:
        self._client = client
        self._operator = operator
        self._own: AuthServicer | None = None
        if operator is not None:
            lent = LentCredentials(StaticCredentials(), operator.credentials)
            self._own = AuthServicer(replace(operator.registries, credentials=lent))

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server."""
        auth_pb2_grpc.add_AuthServicer_to_server(self, server)

    async def Credentials(
        self, request: auth_pb2.CredentialsRequest, context: Context
    ) -> auth_pb2.CredentialsResponse:
        """See the proto."""
        if own := await self._lender(request.Host):
            return await own.Credentials(request, context)
        response: auth_pb2.CredentialsResponse = await self._pass_on("Credentials", request, context)
        return response

    async def FetchToken(
        self, request: auth_pb2.FetchTokenRequest, context: Context
    ) -> auth_pb2.FetchTokenResponse:
        """See the proto."""
        if own := await self._lender(request.Host):
            return await own.FetchToken(request, context)
        response: auth_pb2.FetchTokenResponse = await self._pass_on("FetchToken", request, context)
        return response

    async def GetTokenAuthority(
        self, request: auth_pb2.GetTokenAuthorityRequest, context: Context
    ) -> auth_pb2.GetTokenAuthorityResponse:
        """See the proto."""
        if own := await self._lender(request.Host):
            return await own.GetTokenAuthority(request, context)
        response: auth_pb2.GetTokenAuthorityResponse = await self._pass_on(
            "GetTokenAuthority", request, context
        )
        return response

    async def VerifyTokenAuthority(
        self, request: auth_pb2.VerifyTokenAuthorityRequest, context: Context
    ) -> auth_pb2.VerifyTokenAuthorityResponse:
        """See the proto."""
        if own := await self._lender(request.Host):
            return await own.VerifyTokenAuthority(request, context)
        response: auth_pb2.VerifyTokenAuthorityResponse = await self._pass_on(
            "VerifyTokenAuthority", request, context
        )
        return response

    async def _lender(self, address: str) -> AuthServicer | None:
        """The servicer for a registry whose credentials the operator lends; None for other registries."""
        if self._operator is None or await self._operator.credentials.get(host_at(address)) is None:
            return None
        return self._own

    async def _pass_on(self, method: str, request: Any, context: Context) -> Any:
        if not self._client.supports(f"/{SERVICE}/{method}"):
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the client has no {SERVICE}/{method}")
        async with self._client.channel() as channel:
            try:
                return await getattr(auth_pb2_grpc.AuthStub(channel), method)(
                    request, timeout=context.time_remaining()
                )
            except grpc.aio.AioRpcError as error:
                # The status code says whether to ask another source.
                await context.abort(error.code(), error.details() or "")
