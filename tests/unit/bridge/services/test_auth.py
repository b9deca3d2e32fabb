"""Registry credentials through a session."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import grpc
import grpc.aio
import pytest

from exporter.bridge.services.auth import AuthServicer
from exporter.content.registry.credentials import Credentials, DockerCredentials, StaticCredentials
from exporter.pb.moby.filesync.v1 import auth_pb2, auth_pb2_grpc
from tests.sessions import serving


async def ask(servicer: AuthServicer, host: str) -> tuple[str, str]:
    async with serving(servicer.register) as channel:
        response = await auth_pb2_grpc.AuthStub(channel).Credentials(auth_pb2.CredentialsRequest(Host=host))
        return response.Username, response.Secret


async def test_from_docker_s_configuration(tmp_path: Path) -> None:
    def login(user: str) -> dict[str, str]:
        return {"auth": base64.b64encode(f"{user}:secret of {user}".encode()).decode()}

    auths = {"https://index.docker.io/v1/": login("hub"), "registry.example:5000": login("own")}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    servicer = AuthServicer(DockerCredentials(tmp_path / "config.json"))
    assert await ask(servicer, "registry-1.docker.io") == ("hub", "secret of hub")
    assert await ask(servicer, "registry.example:5000") == ("own", "secret of own")
    assert await ask(servicer, "elsewhere.example") == ("", "")


async def test_an_identity_token_comes_without_a_user() -> None:
    known = StaticCredentials({"r.example": Credentials(username="u", password="p", identity_token="t")})
    assert await ask(AuthServicer(known), "r.example") == ("", "t")


async def test_tokens_are_left_to_the_daemon() -> None:
    async with serving(AuthServicer(StaticCredentials()).register) as channel:
        stub = auth_pb2_grpc.AuthStub(channel)
        for call in (
            stub.FetchToken(auth_pb2.FetchTokenRequest(Host="r.example")),
            stub.GetTokenAuthority(auth_pb2.GetTokenAuthorityRequest(Host="r.example")),
            stub.VerifyTokenAuthority(auth_pb2.VerifyTokenAuthorityRequest(Host="r.example")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
