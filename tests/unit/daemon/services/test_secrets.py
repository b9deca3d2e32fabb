"""Secrets through a session."""

from __future__ import annotations

from pathlib import Path

import grpc
import grpc.aio
import pytest

from exporter.daemon.services.secrets import MAX_SECRET_BYTES, Secret, SecretsServicer
from exporter.pb.moby.buildkit.secrets.v1 import secrets_pb2, secrets_pb2_grpc
from tests.sessions import serving


async def ask(*secrets: Secret, wanted: str = "s") -> bytes:
    async with serving(SecretsServicer(secrets).register) as channel:
        request = secrets_pb2.GetSecretRequest(ID=wanted)
        return (await secrets_pb2_grpc.SecretsStub(channel).GetSecret(request)).data


async def test_from_files_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\0from a file\n")
    monkeypatch.setenv("TOKEN", "from the environment")
    assert await ask(Secret("s", file=file)) == b"\0from a file\n"
    assert await ask(Secret("s", env="TOKEN")) == b"from the environment"
    assert await ask(Secret("s", value=b"given")) == b"given"
    assert await ask(Secret("s", value=b"first"), Secret("s", value=b"last")) == b"last"


def test_just_a_name_is_a_variable_or_a_file() -> None:
    assert Secret.named("TOKEN", {"TOKEN": "x"}) == Secret("TOKEN", env="TOKEN")
    assert Secret.named("TOKEN", {}) == Secret("TOKEN", file=Path("TOKEN"))


@pytest.mark.parametrize(
    ("secret", "code", "text"),
    [
        (Secret("other", value=b""), grpc.StatusCode.NOT_FOUND, "secret s not found"),
        (Secret("s", file=Path("/no/such/file")), grpc.StatusCode.NOT_FOUND, "/no/such/file"),
        (Secret("s", env="NO_SUCH"), grpc.StatusCode.NOT_FOUND, "variable NO_SUCH is not set"),
        (Secret("s", value=bytes(MAX_SECRET_BYTES + 1)), grpc.StatusCode.INVALID_ARGUMENT, "too big"),
        (Secret("s", file=Path("/dev/zero")), grpc.StatusCode.INVALID_ARGUMENT, "too big"),
    ],
)
async def test_unknown_and_unreadable_secrets_are_refused(
    secret: Secret, code: grpc.StatusCode, text: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=text) as caught:
        await ask(secret)
    assert caught.value.code() is code


async def test_the_size_limit(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(MAX_SECRET_BYTES))
    assert len(await ask(Secret("s", file=file))) == MAX_SECRET_BYTES


def test_values_are_not_shown() -> None:
    assert "given" not in repr(Secret("s", value=b"given"))
