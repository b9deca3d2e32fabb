"""Credentials of docker's configuration and its helpers."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from exporter.errors import InvalidArgumentError, UnavailableError
from exporter.remotes.registry.credentials import Credentials, DockerCredentials, StaticCredentials


def write_config(path: Path, **config: object) -> DockerCredentials:
    (path / "config.json").write_text(json.dumps(config))
    return DockerCredentials(path / "config.json")


def helper(directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    program = directory / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


async def test_auths_by_host(tmp_path: Path) -> None:
    source = write_config(
        tmp_path,
        auths={
            "registry.example:5000": {"auth": basic("jo", "pass:word")},
            "https://old.example/v1/": {"username": "a", "password": "b"},
            "https://index.docker.io/v1/": {"identitytoken": "refresh"},
        },
    )
    assert await source.get("registry.example:5000") == Credentials("jo", "pass:word")
    assert await source.get("old.example") == Credentials("a", "b")
    assert await source.get("docker.io") == Credentials(identity_token="refresh")
    assert (await source.get("other.example")).anonymous


async def test_no_file_means_no_credentials(tmp_path: Path) -> None:
    assert (await DockerCredentials(tmp_path / "none.json").get("docker.io")).anonymous


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
async def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InvalidArgumentError, match="config.json"):
        await DockerCredentials(path).get("docker.io")


async def test_a_broken_auth_is_named(tmp_path: Path) -> None:
    source = write_config(tmp_path, auths={"r.example": {"auth": "%%%"}})
    with pytest.raises(InvalidArgumentError, match=r"auths\[r.example\]"):
        await source.get("r.example")


async def test_helpers_are_asked_before_auths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'read server; echo "{\\"Username\\": \\"of-$server\\", \\"Secret\\": \\"s3cret\\"}"'
    helper(tmp_path, monkeypatch, "one", script)
    source = write_config(
        tmp_path, credHelpers={"r.example": "one"}, auths={"r.example": {"auth": basic("x", "y")}}
    )
    assert await source.get("r.example") == Credentials("of-r.example", "s3cret")


async def test_the_store_serves_all_hosts_and_may_hold_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(
        tmp_path,
        monkeypatch,
        "all",
        'cat >/dev/null; echo "{\\"Username\\": \\"<token>\\", \\"Secret\\": \\"t\\"}"',
    )
    source = write_config(tmp_path, credsStore="all")
    assert await source.get("docker.io") == Credentials(identity_token="t")


async def test_a_helper_without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "no", "echo 'credentials not found in native keychain'; exit 1")
    assert (await write_config(tmp_path, credsStore="no").get("r.example")).anonymous


async def test_a_helper_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "bad", "echo locked >&2; exit 1")
    with pytest.raises(UnavailableError, match="docker-credential-bad failed for r.example: locked"):
        await write_config(tmp_path, credsStore="bad").get("r.example")
    with pytest.raises(
        UnavailableError, match="cannot run the credential helper .*: docker-credential-absent: No such file"
    ):
        await write_config(tmp_path, credsStore="absent").get("r.example")


def test_secrets_are_not_shown() -> None:
    shown = repr(Credentials("user", "hunter2", "refresh-token", "bearer-token"))
    assert "user" in shown
    assert not any(secret in shown for secret in ("hunter2", "refresh-token", "bearer-token"))


async def test_an_empty_helper_turns_the_store_off(tmp_path: Path) -> None:
    source = write_config(
        tmp_path,
        credsStore="absent",
        credHelpers={"r.example": ""},
        auths={"r.example": {"auth": basic("jo", "pw")}},
    )
    assert await source.get("r.example") == Credentials("jo", "pw")


async def test_the_exact_key_takes_precedence(tmp_path: Path) -> None:
    source = write_config(
        tmp_path,
        auths={
            "https://r.example/v1/": {"auth": basic("old", "pw")},
            "r.example": {"auth": basic("new", "pw")},
            "index.docker.io": {"auth": basic("old", "pw")},
            "https://index.docker.io/v1/": {"auth": basic("new", "pw")},
        },
    )
    assert await source.get("r.example") == Credentials("new", "pw")
    assert await source.get("docker.io") == Credentials("new", "pw")


async def test_the_place_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    assert DockerCredentials().path == tmp_path / "home" / ".docker" / "config.json"
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    write_config(tmp_path, auths={"r.example": {"username": "jo", "password": "pw"}})
    assert await DockerCredentials().get("r.example") == Credentials("jo", "pw")


async def test_a_helper_with_malformed_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "odd", "cat >/dev/null; echo '[]'")
    with pytest.raises(UnavailableError, match="gave no Username and Secret for r.example"):
        await write_config(tmp_path, credsStore="odd").get("r.example")
    with pytest.raises(InvalidArgumentError, match="must be a name, not a path"):
        await write_config(tmp_path, credsStore="../odd").get("r.example")


async def test_given_credentials() -> None:
    source = StaticCredentials({"r.example": Credentials("jo", "pw")})
    assert await source.get("r.example") == Credentials("jo", "pw")
    assert (await source.get("other.example")).anonymous
