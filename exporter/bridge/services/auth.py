"""Serving registry credentials to a daemon (``moby.filesync.v1.Auth``)."""

# ruff: noqa: N802 (methods are named as in the .proto)

from __future__ import annotations

from typing import Any

import grpc.aio

from exporter.content.registry.credentials import CredentialSource, DockerCredentials
from exporter.pb.moby.filesync.v1 import auth_pb2, auth_pb2_grpc

_DOCKER_HUB = "registry-1.docker.io"

Context = grpc.aio.ServicerContext[Any, Any]


class AuthServicer(auth_pb2_grpc.AuthServicer):
    """Answers with what ``docker login`` left. Needs a server with `exporter.grpc_status.StatusInterceptor`.

    A daemon that wants tokens from us in place of credentials (``FetchToken``) is told that this is not
    offered, as buildctl does with ``BUILDKIT_NO_CLIENT_TOKEN``; it then fetches them itself.

    Args:
        credentials: Where they are; docker's configuration if None.
    """

    def __init__(self, credentials: CredentialSource | None = None) -> None:
        self._credentials = credentials or DockerCredentials()

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server."""
        auth_pb2_grpc.add_AuthServicer_to_server(self, server)

    async def Credentials(
        self, request: auth_pb2.CredentialsRequest, context: Context
    ) -> auth_pb2.CredentialsResponse:
        """Answer with user and password, or with an identity token."""
        found = await self._credentials.get("docker.io" if request.Host == _DOCKER_HUB else request.Host)
        if found.identity_token:
            return auth_pb2.CredentialsResponse(Secret=found.identity_token)
        return auth_pb2.CredentialsResponse(Username=found.username, Secret=found.password)

    async def FetchToken(
        self, request: auth_pb2.FetchTokenRequest, context: Context
    ) -> auth_pb2.FetchTokenResponse:
        """Refuse."""
        raise NotImplementedError("tokens are not fetched here")

    async def GetTokenAuthority(
        self, request: auth_pb2.GetTokenAuthorityRequest, context: Context
    ) -> auth_pb2.GetTokenAuthorityResponse:
        """Refuse."""
        raise NotImplementedError("client side tokens disabled")

    async def VerifyTokenAuthority(
        self, request: auth_pb2.VerifyTokenAuthorityRequest, context: Context
    ) -> auth_pb2.VerifyTokenAuthorityResponse:
        """Refuse."""
        raise NotImplementedError("client side tokens disabled")
