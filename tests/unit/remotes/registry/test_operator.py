"""Credentials that an operator lends to clients: for registries that are named, and for no others."""

from __future__ import annotations

import logging
import ssl

import pytest

from exporter.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError
from exporter.remotes.registry import Credentials, StaticCredentials
from exporter.remotes.registry.auth import Authorizer
from exporter.remotes.registry.client import HTTPClient
from exporter.remotes.registry.hosts import address_of, host_at, parse_host
from exporter.remotes.registry.operator import LentCredentials, OperatorCredentials
from exporter.remotes.registry.retry import Retries, RetryPolicy
from exporter.remotes.registry.tokens import TokenSource

OPERATOR = StaticCredentials(
    {
        host: Credentials("ops", f"pw-{host}", origin="/root/.docker/config.json")
        for host in ("a", "b", "docker.io")
    }
)


class Client(StaticCredentials):
    """A client's credentials; records the registries they were requested for."""

    def __init__(self) -> None:
        super().__init__({host: Credentials("jo", "pw") for host in ("a", "b", "c")})
        self.asked: list[str] = []

    async def get(self, host: str) -> Credentials:
        self.asked.append(host)
        return await super().get(host)

    async def token_source(self, host: str) -> TokenSource | None:
        self.asked.append(host)
        return None


@pytest.mark.parametrize(
    ("hosts", "operators"), [((), ""), (("a",), "a"), (("b", "c"), "b"), (("*",), "ab"), (("*", "a"), "ab")]
)
async def test_credentials_are_lent_for_matching_registries(hosts: tuple[str, ...], operators: str) -> None:
    client = Client()
    lent = LentCredentials(client, OperatorCredentials(OPERATOR, hosts))
    for host in "abc":
        found = await lent.get(host)
        await lent.token_source(host)
        assert found.username == ("ops" if host in operators else "jo")
        assert found.is_operators == (host in operators)
    assert not set(client.asked) & set(operators), "what is not used is not asked for"
    assert (await lent.get("d")).anonymous


async def test_nothing_is_lent_by_default() -> None:
    assert (await LentCredentials(Client(), None).get("a")).username == "jo"


async def test_errors_do_not_reveal_the_operators_credentials() -> None:
    found = await LentCredentials(Client(), OperatorCredentials(OPERATOR, ["a"])).get("a")
    for status in (401, 403):
        text = found.advice("a", status)
        assert "ask the operator" in text
        assert "ops" not in text
        assert "/root" not in text
    assert found.user == "the operator"


class Broken(StaticCredentials):
    async def get(self, host: str) -> Credentials:
        raise InvalidArgumentError("/root/.docker/config.json is not JSON")


async def test_credentials_that_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    lent = LentCredentials(Client(), OperatorCredentials(Broken(), ["a"]))
    with caplog.at_level(logging.ERROR), pytest.raises(UnavailableError, match="ask the operator") as caught:
        await lent.get("a")
    assert "/root" not in str(caught.value)
    assert "config.json is not JSON" in caplog.text
    assert (await lent.get("c")).username == "jo"


async def test_problems_of_the_configuration_are_reported() -> None:
    assert await OperatorCredentials(OPERATOR, ["a", "*"]).problems() == []
    [problem] = await OperatorCredentials(OPERATOR, ["a", "x"]).problems()
    assert problem.startswith("there are no credentials for x")
    [problem] = await OperatorCredentials(Broken(), ["a"]).problems()
    assert "config.json is not JSON" in problem


@pytest.mark.parametrize("challenge", ['Basic realm="r"', 'Bearer realm="https://tokens.invalid/t"'])
async def test_nothing_is_lent_without_certificate_checks(challenge: str) -> None:
    """A client can turn certificate checks off; lent credentials must not be exposed by that."""
    lent = LentCredentials(Client(), OperatorCredentials(OPERATOR, ["a"]))
    async with HTTPClient(ssl.create_default_context(), connections=1, stall_seconds=30) as http:
        authorizer = Authorizer(http, "a", lent, is_unchecked=True)
        authorizer.challenged([challenge], (), None)
        with pytest.raises(FailedPreconditionError, match="certificate is not checked") as caught:
            await authorizer.header((), Retries(RetryPolicy()))
    assert "pw-a" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("r.example", "r.example"),
        ("r.example:5000", "r.example:5000"),
        ("127.0.0.1:5000", "127.0.0.1:5000"),
        ("[::1]:5000", "[::1]:5000"),
        ("docker.io", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("*", "*"),
    ],
)
def test_names_of_registries(text: str, host: str) -> None:
    assert parse_host(text) == host
    if host != "*":
        assert host_at(address_of(host)) == host


@pytest.mark.parametrize(
    "text", ["", "https://r.example", "r.example/app", "jo@r.example", "r:port", "a b", "*.example"]
)
def test_invalid_names_of_registries_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is not a registry's host"):
        parse_host(text)
