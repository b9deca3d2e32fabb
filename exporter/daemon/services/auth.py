"""Serving registry credentials to a daemon, or tokens instead (``moby.filesync.v1.Auth``).

For registries with a token server, a daemon first asks for a token authority: a public key. If it gets one,
the client fetches the tokens, and the daemon never sees the credentials. Other sessions may use the same
tokens if they can sign with that key. Otherwise, and for registries with basic authentication, it asks for
credentials.
"""

# ruff: noqa: N802 (methods are named as in the .proto)

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import grpc.aio

from exporter.content.threads import run_in_thread
from exporter.image import ImageError
from exporter.image.go import text as gotext
from exporter.pb.moby.filesync.v1 import auth_pb2, auth_pb2_grpc
from exporter.remotes.registry import Credentials as RegistryCredentials
from exporter.remotes.registry import RegistryOptions
from exporter.remotes.registry.hosts import host_at

if TYPE_CHECKING:
    from nacl.signing import SigningKey

    from exporter.remotes.registry.tokens import Token

_NO_TOKENS = "BUILDKIT_NO_CLIENT_TOKEN"
_SEED_BYTES = 32

Context = grpc.aio.ServicerContext[Any, Any]


class AuthServicer(auth_pb2_grpc.AuthServicer):
    """Answers with the user's credentials, and with tokens that are obtained with them.

    Needs a server with `exporter.rpc.status.StatusInterceptor`.

    Args:
        registries: The configuration and credentials for registries; docker's configuration if None.
        environ: The environment variables; those of the process if None. With ``BUILDKIT_NO_CLIENT_TOKEN=1``
            daemons fetch tokens themselves. This helps if only they can reach the token server.
    """

    def __init__(
        self, registries: RegistryOptions | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        self._registries = registries or RegistryOptions()
        self._leaves_tokens = _is_true((os.environ if environ is None else environ).get(_NO_TOKENS, ""))
        # Tokens are only for one session. BuildKit's own clients keep a seed per registry on disk, which
        # saves requests to the token server.
        self._seed = secrets.token_bytes(_SEED_BYTES)

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server."""
        auth_pb2_grpc.add_AuthServicer_to_server(self, server)

    async def Credentials(
        self, request: auth_pb2.CredentialsRequest, context: Context
    ) -> auth_pb2.CredentialsResponse:
        """Return user and password, or an identity token."""
        found = await self._find(request.Host)
        if found.identity_token:
            return auth_pb2.CredentialsResponse(Secret=found.identity_token)
        return auth_pb2.CredentialsResponse(Username=found.username, Secret=found.password)

    async def FetchToken(
        self, request: auth_pb2.FetchTokenRequest, context: Context
    ) -> auth_pb2.FetchTokenResponse:
        """Get a token from the registry's token server."""
        credentials = await self._find(request.Host)
        if credentials.registry_token:
            return auth_pb2.FetchTokenResponse(Token=credentials.registry_token)
        token = await self._fetch(request, credentials)
        return auth_pb2.FetchTokenResponse(Token=token.value, ExpiresIn=int(token.lifetime))

    async def GetTokenAuthority(
        self, request: auth_pb2.GetTokenAuthorityRequest, context: Context
    ) -> auth_pb2.GetTokenAuthorityResponse:
        """Return the public key of the owner of tokens."""
        key = await self._signing_key(request.Host, request.Salt)
        return auth_pb2.GetTokenAuthorityResponse(PublicKey=bytes(key.verify_key))

    async def VerifyTokenAuthority(
        self, request: auth_pb2.VerifyTokenAuthorityRequest, context: Context
    ) -> auth_pb2.VerifyTokenAuthorityResponse:
        """Prove that tokens are ours with NaCl's ``crypto_sign``: the signature followed by the payload."""
        key = await self._signing_key(request.Host, request.Salt)
        return auth_pb2.VerifyTokenAuthorityResponse(Signed=bytes(key.sign(request.Payload)))

    async def _fetch(self, request: auth_pb2.FetchTokenRequest, credentials: RegistryCredentials) -> Token:
        from exporter.remotes.registry.auth import fetch_token
        from exporter.remotes.registry.client import HTTPClient
        from exporter.remotes.registry.endpoint import tls_context
        from exporter.remotes.registry.retry import Retries

        options, host = self._registries, host_at(request.Host)
        tls = await run_in_thread(tls_context, host, options, insecure=False)
        async with HTTPClient(tls, connections=1, stall_seconds=options.stall_seconds) as http:
            return await fetch_token(
                http,
                host,
                realm=request.Realm,
                service=request.Service,
                scopes=request.Scopes,
                credentials=credentials,
                retries=Retries(options.retry),
            )

    async def _signing_key(self, host: str, salt: bytes) -> SigningKey:
        """Derive a key from the daemon's salt. Anonymous tokens may be shared by everyone."""
        if self._leaves_tokens:
            raise NotImplementedError("client side tokens disabled")
        secret = b"" if (await self._find(host)).anonymous else self._seed + host.encode()
        from nacl.signing import SigningKey  # slow, and only for registries with tokens

        return SigningKey(hmac.digest(salt, secret, hashlib.sha256))

    async def _find(self, host: str) -> RegistryCredentials:
        return await self._registries.credentials.get(host_at(host))


def _is_true(text: str) -> bool:
    try:
        return gotext.parse_bool(text)
    except ImageError:
        return False
